"""The catalogue of what the text detectors tell of: one entry for each category, with an id that never changes.

Alerts, policies and exports name detections by these ids. ``counterparts`` are the alert types by which the same thing
is known elsewhere. What is not seen in text (addresses, volumes, sign-ins, rhythms) has no entry here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from watchfloor.guard.detectors.hit import Surface
from watchfloor.guard.detectors.sensitive import TYPES
from watchfloor.model.verdicts import Severity


class Detection(NamedTuple):
    """``severity`` is the highest that a signal of it has; ``techniques`` are of MITRE ATT&CK or ATLAS."""

    id: str
    category: str
    title: str
    severity: Severity
    tactic: str
    techniques: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    counterparts: tuple[str, ...]
    advice: str


_ALL: Final = tuple(Surface)
_CALLS: Final = (Surface.USER, Surface.ARGUMENTS, Surface.RESULT, Surface.ANSWER)
_FROM_OUTSIDE: Final = (Surface.ARGUMENTS, Surface.RESULT, Surface.ANSWER, Surface.TOOL_DESCRIPTION)
_H, _M, _L, _I = Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.INFORMATIONAL

DETECTIONS: Final[tuple[Detection, ...]] = (
    Detection("ai.jailbreak", "jailbreak", "Jailbreak attempt", _H, "Defense Evasion", ("AML.T0054",), _ALL,
              ("AI.Azure_Jailbreak", "AI.Azure_Agentic_Jailbreak", "BehaviorPromptShieldJailbreakDetect"),
              "Read the conversation; ask the user. A stolen session is a common reason for a first attempt."),
    Detection("ai.jailbreak.mention", "jailbreak_mention", "Text that speaks of jailbreaks", _I, "Defense Evasion",
              ("AML.T0054",), _ALL, (), "Nothing, unless it comes with attempts: people who defend quote attacks."),
    Detection("ai.authority_claim", "authority_claim", "Claim of authority over the agent", _H, "Defense Evasion",
              ("AML.T0054",), _ALL, ("AI.Azure_Jailbreak",), "Ask who is said to have spoken. Agents take orders from policies."),
    Detection("ai.instruction_leakage", "prompt_extraction", "Attempt to read the agent's instructions", _M, "Reconnaissance",
              ("AML.T0056", "AML.T0069"), _ALL,
              ("AI.Azure_InstructionLeakage", "AI.Azure_LLMReconnaissance", "AI.Azure_Agentic_InstructionLeakage",
               "AI.Azure_Agentic_LLMReconaissance"),
              "Keep secrets out of the instructions; look for what the user tried next."),
    Detection("ai.prompt_injection", "injection", "Instructions planted in content", _H, "Execution", ("AML.T0051.001",),
              _FROM_OUTSIDE, ("AI.Azure_Jailbreak",), "Find where the content came from, and what the agent did after it read it."),
    Detection("ai.prompt_injection.score", "likely_attack", "Text that resembles attacks on agents", _M, "Execution",
              ("AML.T0051", "AML.T0054"), (Surface.USER, Surface.RESULT, Surface.TOOL_DESCRIPTION), ("AI.Azure_Jailbreak",),
              "A score, not a finding: read the passage. Resemblance alone never blocks unless a policy says so."),
    Detection("ai.ascii_smuggling", "hidden_text", "Text hidden in invisible characters", _H, "Defense Evasion",
              ("AML.T0068", "T1027"), _ALL, ("AI.Azure_ASCIISmuggling", "AI.Azure_Agentic_ASCIISmuggling"),
              "Read what is hidden (contents), and who wrote the text."),
    Detection("ai.encoded_payload", "encoded_payload", "Encoded passage that attacks", _H, "Defense Evasion",
              ("AML.T0068", "T1027", "T1140"), _ALL,
              ("Suspicious obfuscated, encoded or hidden payload detected in AI agent activity",),
              "Read what it says once decoded, and find out who sent it."),
    Detection("ai.url_exfiltration", "url_exfiltration", "URL that carries data away", _H, "Exfiltration",
              ("AML.T0057", "T1567"), (Surface.ARGUMENTS, Surface.RESULT, Surface.ANSWER, Surface.USER, Surface.TOOL_DESCRIPTION),
              ("AI.Azure_DataLeakInModelResponse.Sensitive", "AI.Azure_MaliciousUrl.ModelResponse"),
              "Do not open it. See what the address holds, and which text made the agent write it."),
    Detection("ai.malicious_url", "suspicious_url", "URL that hides where it leads", _M, "Command and Control", ("T1102", "T1204.001"),
              _ALL, ("AI.Azure_MaliciousUrl.UserPrompt", "AI.Azure_MaliciousUrl.ModelResponse", "AI.Azure_Agentic_MaliciousUrl.ToolOutput"),
              "Compare the host with what your threat intelligence knows."),
    Detection("ai.tool_poisoning", "tool_poisoning", "Orders in a tool's description", _H, "Persistence", ("AML.T0051.001", "AML.T0053"),
              (Surface.TOOL_DESCRIPTION,), (), "Do not approve the tool; ask its maker; look at calls made since it changed."),
    Detection("ai.credential_theft", "secret", "Credentials in content", _H, "Credential Access", ("T1552",), _CALLS,
              ("AI.Azure_CredentialTheftAttempt",), "Rotate the secret. Find out how the agent came by it."),
    Detection("ai.canary", "canary", "A canary was touched", _H, "Collection", ("T1213", "T1083"),
              (Surface.USER, Surface.ARGUMENTS, Surface.RESULT, Surface.ANSWER), (),
              "Nobody has a reason to touch it: see who asked, what else they read, and where it went."),
    Detection("ai.not_scanned", "not_scanned", "Text that was not looked at", _I, "Defense Evasion", (), _ALL, (),
              "Very long texts are looked at in part only."),
    *(
        Detection(f"ai.sensitive_data.{kind_id}", kind_id, title, _M, "Collection", ("T1213",), _CALLS,
                  ("AI.Azure_SensitiveDataAnomaly", "AI.Azure_DataLeakInModelResponse.Sensitive"),
                  "See who asked for it and where it went; set a data protection policy.")
        for kind_id, title in {kind.id: kind.title for kind in TYPES}.items()
    ),
)  # fmt: skip

BY_CATEGORY: Final = {detection.category: detection for detection in DETECTIONS}
