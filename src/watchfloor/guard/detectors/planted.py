"""Phrases of instructions planted in content: what an outsider writes into a mail, a page or a record for an agent to obey.

Data for ``jailbreak``, in the form of ``phrases``. They are looked for everywhere but in the user's own words: a user may
well tell the agent what to do first and what to keep to itself.
"""

from __future__ import annotations

import re
from typing import Final

from watchfloor.guard.detectors.phrases import Family, pattern, triggers
from watchfloor.model.verdicts import Severity

INJECTION: Final = "injection"

_AI: Final = (
    r"(?:ais?|llms?|chatbots?|chatgpt|gpt|claude|gemini|copilot|(?:ai |virtual |digital )?assistants?|language models?"
    r"|(?:ai |autonomous |automated )agents?|bots?)"
)
_ACTS: Final = (
    r"(?:send|forward|e ?mail|transfer|call|execute|run|delete|upload|post|reveal|append|disregard|ignore|visit|fetch|open"
    r"|share|leak|invoke|wire|pay|download|approve|grant|remove|exfiltrate|output|say|recommend|rate|classify|mark)"
)

FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "addressed",
        INJECTION,
        Severity.MEDIUM,
        0.75,
        triggers(
            "ai ais llm llms chatbot chatbots chatgpt gpt claude gemini copilot assistant assistants model models agent "
            "agents bot bots & attention note notice message messages instruction instructions important warning reminder "
            "directive command if when since because must should shall required dear reading processing"
        ),
        pattern(
            r"(?:attention|note|notice|message|instructions?|important|warning|reminder|directive|command)s? (?:to|for)"
            rf" (?:the |any |all |an |every |whichever )?{_AI}(?: \w+){{0,4}}?"
            r" (?:reading|processing|summari[sz]ing|parsing|handling|analy[sz]ing|viewing|you|please|must|ignore|when|if|do)",
            rf"(?:if|when|since|because|as) you are (?:an? |the |being )?(?:\w+ )?{_AI}~{_ACTS}",
            rf"{_AI}(?: \w+){{0,3}}? (?:must|should|shall|are required to|is required to|has to|have to)"
            rf" (?:now |first |also |immediately |always |instead )?{_ACTS}",
            rf"(?:dear|hey|attention) {_AI}(?: \w+){{0,8}}? {_ACTS}",
            rf"{_AI} (?:that is |who is |currently )?(?:reading|processing|summari[sz]ing|parsing) this~(?:must|should|please|{_ACTS})",
        ),
    ),
    Family(
        "secrecy",
        INJECTION,
        Severity.MEDIUM,
        0.7,
        triggers(
            "user human operator & tell telling inform informing notify notifying alert alerting ask asking mention "
            "mentioning reveal disclose warn warning aware noticing knowing"
        ),
        pattern(
            r"(?:do not|don t|dont|never|must not|without) (?:ever )?"
            r"(?:tell(?:ing)?|inform(?:ing)?|notify(?:ing)?|alert(?:ing)?|ask(?:ing)?|warn(?:ing)?)"
            r" (?:the |your |this )?(?:user|human|operator)(?! (?:for|to (?:re)?enter|s? ?(?:name|password)))",
            r"(?:do not|don t|dont|never|must not|without) (?:ever )?(?:mention(?:ing)?|reveal(?:ing)?|disclos(?:e|ing))"
            r" (?:this|it|that|any of this|these)(?: \w+){0,3}? (?:the |your )?(?:user|human|operator)",
            r"without the (?:user|human|operator)(?: s)? (?:knowing|noticing|being aware|knowledge|awareness)",
            r"(?:user|human|operator) (?:must|should) not (?:know|notice|be (?:told|informed|made aware|aware))",
        ),
    ),
    Family(
        "comes_first",
        INJECTION,
        Severity.MEDIUM,
        0.75,
        triggers(
            "solve solving answering responding proceeding continuing completing replying proceed answer following & before "
            "prior first instead & must should first please need do perform complete execute carry necessary"
        ),
        pattern(
            r"(?:before|prior to) (?:you )?(?:can |may )?(?:solv\w+|answer\w*|respond\w*|repl\w+|continu\w+|complet\w+|proceed\w*)"
            rf"(?: \w+){{0,8}}? (?:you must|you should|you need to|first|please|make sure to|it is necessary to)(?: \w+){{0,3}}? {_ACTS}",
            r"(?:please |must |should )?(?:do|perform|complete|execute|carry out) the following (?:\w+ )?"
            r"(?:first|before (?:you|anything|continuing|answering|solving|proceeding)|instead)",
        ),
    ),
    Family(
        "other_task",
        INJECTION,
        Severity.MEDIUM,
        0.75,
        triggers(
            "task tasks goal objective mission instruction instructions directive directives prompt request input context "
            "& real actual true new updated revised additional instead end begin start disregard"
        ),
        pattern(
            r"instead of (?:\w+ ){0,4}?(?:user s|users|original|requested|assigned) (?:\w+ )?"
            r"(?:request|task|question|query|instructions?|goal)",
            r"your (?:real|actual|true|new|updated) (?:task|goal|objective|instructions?|mission|purpose|role) (?:is|are|will be) (?:now )?to",
            r"(?:new|updated|revised|additional) (?:system |priority |urgent )?(?:instructions?|tasks?|directives?|objectives?)"
            rf" (?:for|to) (?:the |this |any )?{_AI}",
            r"end of (?:the )?(?:user |system )?(?:input|prompt|instructions|context|document|message|data|task)(?: \w+){0,2}?"
            r" (?:new|begin|start|now)(?: \w+){0,2}? (?:instructions?|prompt|task|ignore|system|you)",
            r"(?:begin|start) (?:of )?(?:new )?(?:system|admin|developer|priority) (?:instructions?|prompt|message|override)",
        ),
    ),
    Family(
        "carry_away",
        INJECTION,
        Severity.HIGH,
        0.85,
        triggers(
            "conversation credentials passwords password keys secrets secret tokens token variables history prompt chat "
            "cookies & send sending forward post upload exfiltrate leak transmit submit append include encode embed put "
            "& http https url link image server webhook endpoint address query pixel parameter attacker markdown"
        ),
        pattern(
            r"(?:send|forward|post|upload|exfiltrate|leak|transmit|submit|append|include|encode|embed|put)(?: \w+){0,8}?"
            r" (?:conversation|chat history|chat|system prompt|api keys?|credentials|passwords?|secrets?|environment variables"
            r"|ssh keys?|private keys?|access tokens?|session tokens?|cookies|history)(?: \w+){0,6}?"
            r" (?:to|at|via|in|into|as|using)(?: \w+){0,4}?"
            r" (?:https?|url|query|link|image|server|webhook|endpoint|address|pixel|parameter|attacker|markdown)",
        ),
    ),
)

MARKERS: Final = re.compile(
    r"<(?:INFORMATION|IMPORTANT|SYSTEM|ADMIN|OVERRIDE|INSTRUCTIONS?)>"
    r"|</(?:user_input|user_query|tool_result|tool_output|function_results?|retrieved_context|untrusted|document_content)>"
    r"|(?m:^#{2,6} ?(?:SYSTEM|System|NEW INSTRUCTIONS?|Instruction(?: for (?:AI|LLM|assistant))?):)"
    r"|\[(?:SYSTEM|ADMIN|DEVELOPER) (?:MESSAGE|OVERRIDE|PROMPT|NOTE|INSTRUCTIONS?)\b[^\]]{0,40}\]"
)
"""Frames that pretend to come from the system around the model."""
