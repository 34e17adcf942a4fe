"""Phrases of jailbreaks in more languages: data for ``jailbreak``.

For each language the verbs of leaving, the things that are left, and the words for showing a system prompt. Languages of
Latin script are found by their words like the others; of the rest only what holds a letter of their scripts is looked at.
Written by speakers' grammar, not by translation of a corpus: plain wordings are seen, paraphrases are not.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from watchfloor.guard.detectors.phrases import Family
from watchfloor.guard.detectors.text import fold
from watchfloor.model.verdicts import Severity

SCRIPTS: Final = re.compile(
    "[\u0370-\u03ff\u0400-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"
)


class _Language(NamedTuple):
    """``leave`` and ``show`` are verbs, ``rules`` and ``prompt`` their objects, ``|`` between them."""

    name: str
    leave: str
    rules: str
    show: str
    prompt: str
    whole: str = ""
    """Phrases that stand for themselves."""


_LATIN: Final = (
    _Language(
        "dutch",
        "negeer|negeren|vergeet|vergeten|omzeil|overschrijf",
        "instructies|regels|opdrachten|richtlijnen|aanwijzingen|beperkingen",
        "toon|laat|geef|herhaal|onthul|print",
        "systeemprompt|systeeminstructies",
    ),
    _Language(
        "polish",
        "zignoruj|ignoruj|zapomnij|pomin|obejdz|zlekcewaz",
        "instrukcje|polecenia|zasady|reguly|wytyczne|instrukcjach|zasadach|ograniczenia",
        "pokaz|ujawnij|wypisz|podaj|powtorz",
        "prompt systemowy|instrukcje systemowe|promptu systemowego",
    ),
    _Language(
        "turkish",
        "yok say|gormezden gel|unut|dikkate alma|goz ardi et|yoksay",
        "talimatlari|talimatlarini|kurallari|kurallarini|yonergeleri|komutlari|talimatlar|talimatlarin",
        "goster|yaz|acikla|tekrarla|soyle",
        "sistem promptunu|sistem istemini|sistem talimatlarini|sistem mesajini",
    ),
    _Language(
        "swedish",
        "ignorera|glom|bortse",
        "instruktioner|instruktionerna|regler|reglerna|riktlinjer|anvisningar",
        "visa|avsloja|skriv|upprepa",
        "systemprompt|systemprompten|systeminstruktioner",
    ),
    _Language(
        "danish_norwegian",
        "ignorer|ignorere|glem|se bort fra",
        "instruktioner|instruktionerne|instruksjoner|instruksjonene|regler|reglene|reglerne|retningslinjer",
        "vis|afslor|avslor|gentag|gjenta",
        "systemprompt|systemprompten|systeminstruktioner|systeminstruksjoner",
    ),
    _Language(
        "czech",
        "ignoruj|ignorujte|zapomen|zapomente|obejdi",
        "pokyny|instrukce|pravidla|prikazy|omezeni",
        "ukaz|vypis|zobraz|prozrad|zopakuj",
        "systemovy prompt|systemove pokyny|systemove instrukce",
    ),
    _Language(
        "romanian",
        "ignora|uita|nu tine cont",
        "instructiunile|regulile|comenzile|directivele",
        "arata|afiseaza|dezvaluie|repeta",
        "promptul de sistem|instructiunile de sistem",
    ),
    _Language(
        "indonesian_malay",
        "abaikan|lupakan",
        "instruksi|perintah|aturan|arahan|peraturan",
        "tampilkan|tunjukkan|ungkapkan|dedahkan",
        "prompt sistem|instruksi sistem|arahan sistem",
    ),
    _Language(
        "vietnamese",
        "bo qua|quen|phot lo",
        "huong dan|chi dan|quy tac|lenh|chi thi",
        "hien thi|tiet lo|cho toi xem",
        "loi nhac he thong|prompt he thong|huong dan he thong",
    ),
    _Language(
        "finnish",
        "jata huomiotta|unohda|ohita",
        "ohjeet|ohjeesi|saannot|aiemmat ohjeet|kaikki ohjeet",
        "nayta|paljasta|tulosta",
        "jarjestelmakehote|jarjestelmakehotteesi|jarjestelmaohjeet",
    ),
    _Language(
        "hungarian",
        "hagyd figyelmen kivul|felejtsd el|ignorald",
        "utasitasokat|utasitasaidat|szabalyokat|iranyelveket|elozo utasitasokat|osszes utasitast",
        "mutasd|ird ki|ismeteld",
        "rendszerpromptot|rendszerutasitasokat",
    ),
)

_OTHER: Final = (
    _Language(
        "russian_ukrainian",
        "игнорируй|игнорируйте|проигнорируй|забудь|забудьте|не следуй|обойди|отмени|ігноруй|ігноруйте|забудь",
        "инструкции|инструкций|указания|правила|правил|ограничения|команды|промпт|інструкції|вказівки|обмеження",
        "покажи|выведи|раскрой|повтори|напиши|розкрий|виведи",
        "системный промпт|системные инструкции|системную подсказку|системний промпт|системні інструкції",
        "режим разработчика включен|ты теперь dan|теперь ты без ограничений|у тебя нет ограничений",
    ),
    _Language(
        "greek",
        "αγνόησε|αγνοήστε|ξέχνα|ξεχάστε|παράβλεψε",
        "οδηγίες|εντολές|κανόνες|περιορισμούς",
        "δείξε|εμφάνισε|αποκάλυψε",
        "system prompt|οδηγίες συστήματος|προτροπή συστήματος",
    ),
    _Language(
        "bulgarian",
        "игнорирай|пренебрегни|забрави",
        "инструкции|инструкциите|правила|правилата|указания|указанията",
        "покажи|разкрий|изведи",
        "системния промпт|системните инструкции",
    ),
    _Language(
        "arabic",
        "تجاهل|تجاهلي|انس|انسى|تجاوز|لا تتبع",
        "التعليمات|تعليماتك|تعليمات|القواعد|قواعدك|الأوامر|القيود",
        "اعرض|أظهر|اكشف|اطبع|كرر",
        "تعليمات النظام|موجه النظام|رسالة النظام",
    ),
    _Language(
        "hebrew",
        "התעלם|התעלמי|שכח|תתעלם",
        "ההוראות|מההוראות|הוראות|הכללים|מהכללים|ההנחיות|מההנחיות",
        "הצג|הראה|חשוף",
        "הנחיות המערכת|הוראות המערכת",
    ),
    _Language(
        "persian_urdu",
        "نادیده بگیر|فراموش کن|نظر انداز کریں|بھول جائیں",
        "دستورالعمل|دستورات|قوانین|ہدایات|قواعد",
        "نشان بده|دکھائیں",
        "دستورات سیستم|سسٹم پرامپٹ",
    ),
    _Language(
        "hindi",
        "अनदेखा|नज़रअंदाज़|भूल जाओ|भूल जाएं|उपेक्षा",
        "निर्देश|निर्देशों|नियम|नियमों|आदेश|आदेशों",
        "दिखाओ|दिखाएं|बताओ|प्रकट",
        "सिस्टम प्रॉम्प्ट|सिस्टम निर्देश",
    ),
)

_THAI: Final = (
    ("เพิกเฉย|ไม่ต้องสนใจ|ละเลย|ลืม|ไม่สนใจ", "คำสั่ง|คำแนะนำ|กฎ|ข้อจำกัด"),
    ("แสดง|เปิดเผย|บอก|พิมพ์", "พรอมต์ระบบ|คำสั่งระบบ|ระบบพรอมต์"),
)
"""Verbs and objects, without spaces between words."""

_UNSPACED: Final = (
    ("chinese", r"(?:忽略|忽視|忽视|无视|無視|忘记|忘掉|忘記|绕过|繞過|不要遵守|不再遵守)[^。\n]{0,14}(?:指令|指示|提示词|提示詞|规则|規則|说明|說明|设定|設定|限制|命令)"),
    ("chinese", r"(?:显示|顯示|输出|輸出|告诉我|告訴我|重复|重複|泄露|打印)[^。\n]{0,10}(?:系统提示|系統提示|系统指令|系統指令|初始指令|隐藏指令)"),
    ("chinese", r"(?:开发者模式|開發者模式)(?:已)?(?:启用|啟用|开启|開啟)|你现在是(?:一个)?(?:dan|没有(?:任何)?限制)|你現在是(?:dan|沒有限制)"),
    ("japanese", r"(?:以前|これまで|前|上記|すべて|全て|全)の?(?:の)?[^。\n]{0,8}(?:指示|命令|ルール|プロンプト|制約|設定)[^。\n]{0,6}(?:無視|忘れ|従わな|破棄)"),
    ("japanese", r"(?:システムプロンプト|システム指示|内部指示|初期プロンプト)[^。\n]{0,8}(?:表示|教え|見せ|出力|開示|繰り返)"),
    ("korean", r"(?:이전|앞선|위의|모든|기존)[^.\n]{0,12}(?:지시|명령|규칙|지침|프롬프트|제한)[^.\n]{0,8}(?:무시|잊어|따르지)"),
    ("korean", r"(?:시스템 ?프롬프트|시스템 ?지침|초기 ?프롬프트)[^.\n]{0,10}(?:보여|알려|출력|공개|말해)"),
)  # fmt: skip


def _folded(words: str) -> list[str]:
    return [fold(word) for word in words.split("|") if word]


def _either(words: list[str]) -> str:
    return "(?:" + "|".join(re.escape(word).replace(r"\ ", " ") for word in sorted(words, key=len, reverse=True)) + ")"


_GAP: Final = r" (?:\w{1,24} ){0,4}?"


def _families(language: _Language, is_latin: bool) -> tuple[Family, Family]:
    found = []
    for kind, verbs, things in (
        ("jailbreak", language.leave, language.rules),
        ("prompt_extraction", language.show, language.prompt),
    ):
        verb_words, thing_words = _folded(verbs), _folded(things)
        verb, thing = _either(verb_words), _either(thing_words)
        alone = [f"|{_either(_folded(language.whole))}"] if language.whole and kind == "jailbreak" else [""]
        source = f" (?:{verb}{_GAP}{thing}|{thing}{_GAP}{verb}{alone[0]})(?= )"
        first = (frozenset(w.split()[0] for w in verb_words), frozenset(w.split()[0] for w in thing_words))
        severity, score = (Severity.HIGH, 0.9) if kind == "jailbreak" else (Severity.MEDIUM, 0.8)
        found.append(Family(language.name, kind, severity, score, first if is_latin else (), re.compile(source)))
    return found[0], found[1]


LATIN: Final[tuple[Family, ...]] = tuple(family for language in _LATIN for family in _families(language, True))
OTHER: Final[tuple[Family, ...]] = (
    *(family for language in _OTHER for family in _families(language, False)),
    # A character is taken in front, as in the patterns that begin at a space.
    *(Family(name, "jailbreak", Severity.HIGH, 0.9, (), re.compile(f"(?s:.)(?:{p})(?s:.)")) for name, p in _UNSPACED),
    *(
        Family(
            "thai",
            "jailbreak",
            Severity.HIGH,
            0.9,
            (),
            re.compile(f"(?s:.){_either(_folded(v))}.{{0,24}}{_either(_folded(o))}"),
        )
        for v, o in _THAI
    ),
)
"""To be tried only where ``SCRIPTS`` matches."""
