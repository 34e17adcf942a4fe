"""The phrase families of the jailbreak detector: data, one entry a kind of phrase and language.

Patterns run over folded text (lower-case letters, no accents, words parted by single spaces, and one at either end).
In them ``~`` stands for up to four words between, ``{NAME}`` for a list of words below. Every gap is bounded and no
quantifier stands inside another unbounded one, so matching is linear whatever the text. To add a language: a family
here, attacks and benign twins in ``tests/guard/detectors/``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from watchfloor.model.verdicts import Severity


class Family(NamedTuple):
    """Phrases of one kind. ``pattern`` is not tried unless a word of each set in ``triggers`` occurs."""

    name: str
    category: str
    severity: Severity
    score: float
    triggers: tuple[frozenset[str], ...]
    pattern: re.Pattern[str]


_WORDS: Final = {
    "RULES": "instructions?|directions|prompts?|rules|guidelines?|directives?|commands|orders|polic(?:y|ies)"
    "|programming|restrictions?|safeguards?|guardrails?|constraints?|training|safety measures",
    "WHOSE": "previous|previously|last|former|prior|above|earlier|preceding|all|any|every|your|system|original"
    "|initial|foregoing|safety|current|existing|developer|content|these|those|of the",
    "LEAVE": "ignore|ignoring|disregard|disregarding|forget|overrid(?:e|ing)|bypass(?:ing)?|overlook|neglect"
    "|circumvent|do not follow|don t follow|dont follow|stop following|not obey|don t obey|pay no attention to|drop"
    "|discard",
    "LIMITS": "restrictions?|limits?|limitations?|rules|filters?|filtering|censorship|guardrails?|safeguards?"
    "|constraints?|guidelines?|moderation|ethics|boundaries|content polic(?:y|ies)",
    "NO": "have no|has no|have zero|without any|without|free from|free of|not bound by|no longer bound by|unbound by"
    "|not limited by|not subject to|ignore",
    "TELL": "reveal|show|print|repeat|output|display|tell|give|leak|dump|recite|disclose|share|write|copy|expose"
    "|what is|what s|what are|what was|what were|paste|send|email|summari[sz]e|translate|encode",
    "PROMPT": "system (?:prompts?|messages?|instructions?)"
    "|(?:initial|hidden|secret|original|internal|pre|confidential|exact|full|complete|developer|base|underlying|first)"
    " (?:system )?(?:prompts?|instructions?|messages?|rules|guidelines|directives)"
    "|prompts? (?:above|verbatim)|instructions? (?:above|verbatim|word for word)",
    "MAKER": "developers?|creators?|programmers?|engineers?|vendor|makers?",
    "ADMIN": "administrators?|admins?|ceo|security team|security officer|it department|owner",
    "BREAK": "ignore|bypass|override|disregard|skip|break|violate|circumvent|disable|suspend|lift|unlock",
}


def pattern(*sources: str) -> re.Pattern[str]:
    """The expression for any of ``sources``, written as the module says."""
    # Words stand between single spaces, so a phrase begins at a space: a literal to jump to, far faster than ``\\b``.
    source = f" (?:{'|'.join(sources)})(?= )"
    for name, words in _WORDS.items():
        source = source.replace("{" + name + "}", f"(?:{words})")
    return re.compile(source.replace("~", r" (?:\w{1,24} ){0,4}?").replace(r"\w+", r"\w{1,24}"))


def triggers(words: str) -> tuple[frozenset[str], ...]:
    """Sets of words, ``&`` between them."""
    return tuple(frozenset(each.split()) for each in words.split("&"))


FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "override",
        "jailbreak",
        Severity.HIGH,
        0.9,
        triggers(
            "ignore ignoring disregard disregarding forget override overriding bypass bypassing overlook "
            "neglect circumvent follow following obey attention drop discard new cancelled canceled void "
            "revoked null obsolete invalid superseded & instruction instructions directions prompt prompts "
            "rules guideline guidelines directive directives commands orders policy policies programming "
            "restriction restrictions safeguard safeguards guardrail guardrails constraint constraints training "
            "measures everything all anything"
        ),
        pattern(
            r"{LEAVE} (?:\w+ ){0,2}?(?<! my ){WHOSE}~{RULES}",
            r"{LEAVE} (?:everything|all|anything)(?: that)?(?: was| you were| you ve been| you have been| has been| i)?"
            r" (?:told|said|written|instructed|above|before)",
            r"(?:forget|ignore|disregard) (?:everything|all|all that|anything) you (?:know|knew|learned|have learned)",
            r"(?:previous|prior|earlier|former)~(?:instructions?|prompts?|directives?)"
            r" (?:are|is) (?:now |hereby )?(?:cancell?ed|void|revoked|null|obsolete|invalid|superseded)",
            r"(?:my|your|these|the following) new (?:instructions?|directives?|rules)"
            r" (?:supersedes?|overrides?|replaces?)",
            r"new (?:instructions?|directives?) you (?:must|are|will|shall)",
        ),
    ),
    Family(
        "role_play",
        "jailbreak",
        Severity.HIGH,
        0.9,
        triggers(
            "dan developer mode unrestricted unfiltered uncensored jailbroken amoral unethical restrictions "
            "restriction limits limit limitations limitation rules filters filter filtering censorship "
            "guardrails guardrail safeguards safeguard constraints constraint guidelines guideline moderation "
            "ethics boundaries jailbreak anything policy policies principles & you your yourself dan "
            "mode act behave respond answer reply operate function roleplay pretend speak now jailbreak it he "
            "she assistant chatbot model bot character"
        ),
        pattern(
            r"do anything now",
            r"(?:you are|you re|act as|be|become|called|named|respond as|play) (?:now )?dan"
            r"(?! \w+(?: s)? (?:assistant|manager|team|office))",
            r"(?:dan|god|sudo|evil|chaos|unrestricted|unfiltered|jailbreak|jailbroken|opposite) mode"
            r"(?! (?:on|in|for) (?:my|the|your|a) \w+)",
            r"(?:you|your|yourself)~developer mode",
            r"(?:enter|simulate|switch to|go into) developer mode"
            r"(?! (?:on|for|of|under|settings)\b| in (?:the|my|your|an?|chrome|android|firefox|edge|safari)\b)",
            r"developer mode (?:is )?(?:now )?(?:enabled|activated|unlocked|engaged|output)",
            r"(?:act|behave|respond|answer|reply|operate|function|roleplay|pretend|speak)"
            r"~(?:unrestricted|unfiltered|uncensored|jailbroken|amoral|unethical)",
            r"you are (?:now )?(?:an? |my )?(?:unrestricted|unfiltered|uncensored|jailbroken|amoral)",
            r"(?:you|it|he|she|dan|assistant|chatbot|model|bot|character) (?:\w+ ){0,4}?(?:without|no|not have|t have)"
            r"(?: any)? (?:ethical|moral)(?: or \w+| and \w+)? (?:guidelines|rules|restrictions|limits|principles"
            r"|boundaries|constraints|filters)",
            r"(?:you|your responses|yourself)~{NO}(?: any| all| the| your| its| such)?(?: \w+)? {LIMITS}",
            r"pretend(?: \w+){0,6}? (?:no|not have|not bound by|don t have|do not have|without)"
            r"(?: any)?(?: \w+)? {LIMITS}",
            r"(?:respond|answer|reply|act|speak|operate)(?: \w+){0,4}? without (?:any |all )?(?:\w+ )?{LIMITS}",
            r"(?:remove|lift|disable|turn off|deactivate|drop) (?:all |any |every )?(?:of )?your (?:\w+ )?{LIMITS}",
            r"jailbreak (?:yourself|prompt activated|enabled|activated)",
        ),
    ),
    Family(
        "prompt_extraction",
        "prompt_extraction",
        Severity.MEDIUM,
        0.8,
        triggers(
            "prompt prompts instruction instructions message messages rules guidelines directives configuration "
            "above precedes & reveal show print repeat output display tell give leak dump recite disclose share "
            "write copy expose what paste send email summarize summarise summary recall gimme translate encode "
            "say return"
        ),
        pattern(
            r"{TELL}~(?:your|the|its|this|me)~{PROMPT}",
            r"(?:reveal|print|repeat|output|leak|dump|recite|disclose|expose)"
            r"~your (?:own )?(?:prompt|instructions|rules|guidelines|directives|configuration)",
            r"(?:repeat|print|output|copy|write|say|return|recite)"
            r"~(?:everything|all|the words|the text|words|text|whatever)~(?:above|precedes this)",
            r"(?:what are|what were|repeat|recall|reveal|recite|summary of|summari[sz]e|gimme)"
            r"~(?:previous|prior|preceding) (?:instructions?|prompts?|directives)",
        ),
    ),
    Family(
        "authority",
        "authority_claim",
        Severity.HIGH,
        0.8,
        triggers(
            "authorize authorise authorized authorised permit allow command instruct override approve require "
            "grant demand bypass ignore disable skip lift suspend unlock disregard break violate circumvent "
            "autorisiere erlaube befehle genehmige gestatte ermachtige ordne autorise ordonne permets demande "
            "autorizo ordeno permito exijo & developer developers creator creators programmer programmers "
            "engineer engineers vendor maker makers administrator administrators admin admins root superuser "
            "ceo officer team department owner you override test pentest penetration entwickler entwicklerin "
            "ersteller programmierer developpeur developpeuse createur administrateur programmeur desarrollador "
            "desarrolladora creador administrador programador"
        ),
        pattern(
            r"as (?:the|your|a|an|its) (?:\w+ ){0,2}?{MAKER}(?: \w+){0,5}? (?:i|we) (?:\w+ ){0,2}?"
            r"(?:authori[sz]e|permit|allow|command|instruct|override|approve|require|grant|demand)",
            r"(?:i am|i m|this is|we are|speaking as) (?:the|your|a|an) (?:\w+ ){0,2}?"
            r"(?:{MAKER}|administrators?|admins?|root user|superuser)(?: \w+){0,8}? {BREAK}",
            r"as (?:the|your|an?) (?:\w+ ){0,2}?{ADMIN}(?: \w+){0,8}? {BREAK}(?: \w+){0,4}?"
            r" (?:polic(?:y|ies)|rules|restrictions?|checks?|safeguards?|controls?|instructions?|guardrails?|limits?)",
            r"(?:i|we) (?:hereby )?(?:authori[sz]e|permit|allow) you to (?:\w+ ){0,3}?{BREAK}",
            r"(?:admin|administrator|developer|emergency|security|root|system|maintenance) override"
            r" (?:code|accepted|activated|enabled|granted|engaged|authori[sz]ed|initiated)",
            r"authori[sz]ed (?:security test|penetration test|pentest|red team)(?: \w+){0,8}? {BREAK}",
            r"als (?:dein |euer |ihr |der |die )?(?:entwickler|entwicklerin|ersteller|administrator|programmierer)"
            r"(?: \w+){0,4}? (?:autorisiere|erlaube|befehle|genehmige|gestatte|ermachtige|ordne)",
            r"en tant que (?:ton |votre |le |ta |la )?(?:developpeur|developpeuse|createur|administrateur|programmeur)"
            r"(?: \w+){0,4}? (?:autorise|ordonne|permets|demande d ignorer)",
            r"como (?:tu |su |el |la )?(?:desarrollador|desarrolladora|creador|administrador|programador)"
            r"(?: \w+){0,4}? (?:autorizo|ordeno|permito|exijo)",
        ),
    ),
    Family(
        "german",
        "jailbreak",
        Severity.HIGH,
        0.9,
        triggers(
            "ignoriere ignorieren ignoriert missachte missachten missachtet vergiss vergesst vergessen umgeh "
            "umgehe setze du zeig zeige zeigen verrat verrate verraten gib gibt nenn nenne nennen wiederhol "
            "wiederhole wiederholen drucke entwicklermodus hast gelten & alles anweisungen instruktionen regeln "
            "vorgaben befehle richtlinien vorschriften einschrankungen systemprompt prompt systemanweisung "
            "systemanweisungen sicherheitsrichtlinien dan uneingeschrankt filter grenzen entwicklermodus"
        ),
        pattern(
            r"(?:ignorier(?:e|en|t)|missachte[nt]?|vergiss|vergesst|vergessen sie|umgehe?)"
            r"~(?:alle[nr]?|samtliche[nr]?|vorherige[nr]?|bisherige[nr]?|obige[nr]?|vorangegangene[nr]?|fruhere[nr]?"
            r"|deine[nr]?|ihre|eure|vorigen?)"
            r"~(?:anweisungen|instruktionen|regeln|vorgaben|befehle|richtlinien|vorschriften|einschrankungen"
            r"|systemprompt)",
            r"(?:ignorier(?:e|en)|vergiss|vergessen sie)(?: sie)? alles(?: \w+){0,4}?"
            r" (?:gesagt|angewiesen|zuvor|vorher|oben|davor|bisher)",
            r"(?:zeig|verrat|gib|nenn|wiederhol|druck)\w{0,3}~(?:systemprompt|system prompt|systemanweisung(?:en)?"
            r"|(?:interne|geheime|versteckte|ursprungliche)n? (?:anweisungen|instruktionen|regeln))",
            r"du bist (?:jetzt|nun|ab jetzt|ab sofort)"
            r"~(?:dan|uneingeschrankt|ohne (?:\w+ )?(?:einschrankungen|regeln|filter|grenzen))",
            r"(?:ab jetzt|ab sofort|von nun an) hast du keine (?:\w+ )?"
            r"(?:regeln|einschrankungen|grenzen|filter|vorgaben)",
            r"(?:regeln|richtlinien|sicherheitsrichtlinien)~gelten (?:hier |jetzt |nun |ab jetzt )?nicht",
            r"entwicklermodus (?:ist )?(?:jetzt )?(?:aktiviert|eingeschaltet|freigeschaltet)",
        ),
    ),
    Family(
        "french",
        "jailbreak",
        Severity.HIGH,
        0.9,
        triggers(
            "ignore ignorez ignorer oublie oubliez oublier compte abstraction neglige negligez negliger "
            "contourne contournez contourner revele revelez montre montrez affiche affichez repete repetez "
            "donne donnez divulgue divulguez es etes mode & instruction instructions consigne consignes regle "
            "regles directive directives ordres restriction restrictions prompt dan limite limites filtre "
            "filtres censure developpeur"
        ),
        pattern(
            r"(?:ignore[zr]?|oublie[zr]?|ne tiens pas compte|ne tenez pas compte|fais abstraction|faites abstraction"
            r"|neglige[zr]?|contourne[zr]?)~(?:toutes|tous|tes|vos|les|des)"
            r"~(?:instructions?|consignes?|regles?|directives?|ordres|restrictions?)"
            r"~(?:precedentes?|precedents?|anterieure?s?|ci dessus|prealables?|initiales?|donnees|recues|systeme)",
            r"(?:ignore[zr]?|oublie[zr]?|contourne[zr]?) (?:toutes les|tous les|toutes tes|toutes vos|tes|vos)"
            r" (?:instructions?|consignes?|regles?|directives?|restrictions?)",
            r"(?:revele|montre|affiche|repete|donne|divulgue)[zrs]?~(?:prompt (?:systeme|initial|cache)"
            r"|(?:instructions|consignes) (?:systeme|internes|cachees|initiales|secretes))",
            r"(?:tu es|vous etes) (?:maintenant|desormais|a present)"
            r"~(?:dan|sans (?:aucune? )?(?:restrictions?|limites?|filtres?|censure|regles?))",
            r"mode developpeur (?:est )?(?:active|actif|enclenche)",
        ),
    ),
    Family(
        "spanish",
        "jailbreak",
        Severity.HIGH,
        0.9,
        triggers(
            "ignora ignore ignores ignorad olvida olvide olvidad caso sigas siga desobedece elude omite revela "
            "muestra muestrame repite dime imprime ensena ensename eres modo & instrucciones reglas directrices "
            "ordenes indicaciones restricciones restriccion normas prompt dan limites filtros censura "
            "desarrollador"
        ),
        pattern(
            r"(?:ignora|ignore|ignores|ignorad|olvida|olvide|olvidad|haz caso omiso|haga caso omiso|no sigas|no siga"
            r"|desobedece|elude|omite)(?: de)?~(?:todas|todos|tus|sus|las|los)"
            r"~(?:instrucciones|reglas|directrices|ordenes|indicaciones|restricciones|normas)"
            r"~(?:anteriores|previas|previos|precedentes|iniciales|de arriba|del sistema|originales|recibidas)",
            r"(?:ignora|ignore|olvida|olvide|desobedece|elude) (?:todas tus|todas sus|todas las|tus|sus)"
            r" (?:instrucciones|reglas|directrices|restricciones|normas)",
            r"(?:revela|muestra|muestrame|repite|dime|imprime|ensena|ensename)~(?:prompt (?:del sistema|inicial|oculto)"
            r"|instrucciones (?:del sistema|internas|ocultas|iniciales|secretas))",
            r"modo desarrollador (?:sin restricciones|activado)",
            r"ahora eres"
            r"~(?:dan|sin (?:ninguna? )?(?:restricciones|restriccion|limites|filtros|censura|reglas))",
        ),
    ),
    Family(
        "portuguese_italian",
        "jailbreak",
        Severity.HIGH,
        0.9,
        triggers(
            "ignore ignora ignorate esqueca esquece desconsidere dimentica dimenticate trascura & instrucoes "
            "regras diretrizes istruzioni regole direttive"
        ),
        pattern(
            r"(?:ignore|ignora|esqueca|esquece|desconsidere)~(?:todas|as|suas|tuas)"
            r"~(?:instrucoes|regras|diretrizes)~(?:anteriores|previas|acima|iniciais)",
            r"(?:ignora|dimentica|trascura|ignorate|dimenticate)~(?:tutte|le|tue|ogni)"
            r"~(?:istruzioni|regole|direttive)~(?:precedenti|iniziali|sopra|ricevute|anteriori)",
            r"(?:ignora|dimentica) (?:tutte le tue|tutte le|le tue) (?:istruzioni|regole|direttive)",
            r"(?:rivela|mostra|mostrami|ripeti)~istruzioni (?:di sistema|iniziali|nascoste|interne)",
            r"(?:ora|adesso) sei~(?:dan|senza (?:alcuna )?(?:restrizioni|limiti|filtri|regole))",
        ),
    ),
)
