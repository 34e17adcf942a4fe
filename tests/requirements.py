"""The claims of the product: what must be true, in whose words, and whether it is built.

The first part is the story that Watchfloor exists for, sentence by sentence; the second the invariants. A claim with
``open=False`` must be named by at least one test (``@pytest.mark.claim("id")``); one with ``open=True`` says in
``gap`` what is missing. ``tests/test_requirements.py`` holds both to it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise. ``gap`` says what is missing while it is ``open``."""

    id: str
    sentence: str
    open: bool = False
    gap: str = ""


CLAIMS: tuple[Claim, ...] = (
    # -- the story ------------------------------------------------------------------------------------------------
    Claim("story-blocked-before-tool", "Every one of the thief's e-mail calls is blocked before it reaches the mail server."),
    Claim("story-jailbreak-seen", "The persistent jailbreak attempts are seen."),
    Claim("story-one-incident", "Alerts are joined into one incident, 'Collection incident involving one user', critical."),
    Claim(
        "story-incident-facts",
        "The incident's description is written from the facts: who, which agent, which tool, how often, from which "
        "addresses, what was stopped.",
    ),
    Claim("story-it-risks-tab", "In the admin center, Registry > Risks shows the agents that need attention.", True,
          "no admin center yet; the API lists unresolved high and critical alerts by agent"),
    Claim("story-it-serious-only", "The IT admin receives only unresolved high and critical alerts, whatever the route."),
    Claim("story-soc-sees-all", "The SOC analyst sees all severities and all states of the same agent."),
    Claim("story-incident-page", "The incident page shows story, alerts, events, recommended actions and a graph.", True,
          "the API serves the graph; the page does not draw it yet, and there is no evidence view"),
    Claim("story-confirm-compromised", "Confirm compromised fires the conditional access policy."),
    Claim("story-sessions-die-at-once", "The very next tool call after a revoke is refused, everywhere, in under a second."),
    Claim("story-password-reset", "The identity provider forces a password reset, and it is read back as evidence."),
    Claim("story-resolve", "The incident is resolved with a classification."),
    Claim("story-go-hunt", "A KQL query on the agent shows its creation, last change, triggers, agents and tools.", True,
          "AgentsInfo and AIAgentsInfo are filled and such queries run; there is no page that begins the hunt"),
    Claim("story-maker-credentials-hunt", "A prebuilt query finds every agent whose tools run on the maker's credentials."),
    Claim("story-notify-makers", "One click notifies each maker, and follows up until it is fixed."),
    Claim("story-block-agent", "The IT admin blocks the agent: current users are refused at the next call."),
    Claim("story-proof-of-enforcement", "Each enforcement point is shown to refuse a blocked agent; one that does not is told of."),
    Claim("story-resubmit", "The maker submits a corrected version; it is scanned, compared, approved and published."),
    # -- posture --------------------------------------------------------------------------------------------------
    Claim("posture-indicators", "Every posture indicator finds the agents that it must on its rows, and no other."),
    Claim("posture-scan", "A scan says of each agent which indicators hold, with evidence and since when, and ends those that are mended."),
    Claim("posture-risk", "An agent's risk is worked out from likelihood and impact, never falls as either grows, and names its reasons."),
    Claim("posture-exception", "A finding is accepted with a reason until a day, audited, and never by whoever built the agent."),
    Claim("posture-kql", "Findings are a table in KQL that says what the API says."),
    Claim("least-privilege", "The proposed grants are the smallest that cover what an agent did, and no past call would have failed."),
    Claim("least-privilege-applies", "The proposed manifest, applied, takes away what was not used and changes nothing else."),
    # -- hunting templates ----------------------------------------------------------------------------------------
    Claim("hunting-templates", "Every hunting template finds the rows that it must and no other, by two engines that agree."),
    Claim("hunting-counterparts", "Each of Microsoft's 37 hunting templates for AI agents has a counterpart that says how it differs."),
    Claim("hunting-library", "Operators keep, share and mark queries; nobody sees what others keep, or overwrites what they changed."),
    # -- versions and publishing ----------------------------------------------------------------------------------
    Claim("versions-kept", "Every manifest of an agent is a version, kept for ever and compared in the manifest's words."),
    # -- the registry ---------------------------------------------------------------------------------------------
    Claim("graph-packages", "Agents are read, filtered, blocked and unblocked as packages of Graph's catalogue."),
    Claim("versions-histories", "In no history of an agent is an own or an older build let out, or a state left past the table."),
    Claim("agent-store", "Users find the agents that are shared with them, read what each can reach and as whom, and ask for others."),
    Claim("agents-owned", "Agents that nobody answers for are listed, and are handed over, but not by their own people."),
    Claim("versions-approved-by-others", "What is live stays live until somebody who built neither agent nor version approves."),
    # -- rules in KQL ---------------------------------------------------------------------------------------------
    Claim("rules-kql", "Every shipped rule in KQL raises what its attack rows must raise, and nothing on its benign rows."),
    Claim("rules-faults", "Everything that is wrong with a rule is told at once: file, place, line and column of its query."),
    Claim("rules-once", "Order, cut, replays, lateness, crashes and second servers change no alert of a rule: none lost, none twice."),
    Claim("rules-alone", "A rule that fails or costs too much delays no other, and is switched off with an alert."),
    Claim("rules-custom", "Operators write rules through the API; they are checked, audited and run as those of the product."),
    Claim("rules-backtest", "A rule is tried over stored days before it is enabled, with progress and cancel, and stores nothing."),
    Claim("quiet-day", "Background traffic of a day raises no incident above low, and the attack on the same company one, critical."),
    Claim("rules-switched", "Every rule, of whatever kind, is switched off and on at once through API and command line, audited and listed."),
    Claim("canary", "Whoever touches a canary through an agent, a value or a tool, is in a high alert; nothing that is kept says the value."),
    Claim("rules-suppressed", "A suppressed alert is kept and resolved with the reason, and opens no incident."),
    # -- provenance -----------------------------------------------------------------------------------------------
    Claim("provenance-untraced", "A destination that only running text of a tool ever named is refused before the call goes out."),
    Claim("provenance-evidence", "The reason shows the whole way: tool result, field, excerpt, argument, and what could not be seen."),
    Claim("provenance-workers", "What one gateway worker has heard, every worker of the host knows."),
    Claim("provenance-shared", "Where hosts share conversations, what one has read every other decides on."),
    Claim("provenance-tightens", "A worker that cannot read the state of a conversation refuses what it cannot trace."),
    # -- the SDK and its adapters ---------------------------------------------------------------------------------
    Claim("sdk-fails-closed", "A tool that the SDK guards does not run without a complete answer that says allow or redact."),
    Claim("sdk-provenance", "Through the SDK the guard knows the user's words and every result, and knows when it does not."),
    Claim("sdk-hook", "Claude Code's tools run only if the hook asked the guard and was not refused; a hook that fails blocks."),
    Claim("sdk-adapters", "In LangChain, OpenAI's Agents SDK and Microsoft Agent Framework no tool runs that the guard did not allow."),
    Claim("sdk-wheel", "The SDK is a wheel of its own that needs nothing of Watchfloor's server."),
    # -- other doors ----------------------------------------------------------------------------------------------
    Claim("agent365-tooling", "Agent 365's tooling SDK, unchanged, lists its tool servers from us and calls them through the gateway."),
    Claim("agent365-blocked", "A blocked agent gets no list of tool servers, no words are taken from it, and no call of it goes out."),
    Claim("agent365-words", "Words count as the user's only where a token proves whose agent told them, and in their conversation only."),
    Claim("ext-authz-refused", "Through Envoy, a call that is not allowed never reaches the tool server; without an answer, none does."),
    Claim("ext-authz-verbatim", "A body that goes on as it came passes only if no common parser reads anything else in it."),
    Claim("ext-authz-unseen", "Where the gateway sees no answers, a conversation counts as one that is not fully known."),
    Claim("litellm-guardrail", "A call that a model asks for through LiteLLM is decided on; whatever fails is a verdict that blocks."),
    Claim("litellm-provenance", "Through LiteLLM only messages of the user are the user's words, and tools' answers are known as such."),
    Claim("litellm-texts", "Policies take data out of prompts and answers that pass LiteLLM, or stop them."),
    # -- held calls -----------------------------------------------------------------------------------------------
    Claim("hold-once", "An approved call goes out once: not on two workers, not on two hosts, not after a death."),
    Claim("hold-exact", "An approval lets out the very call that was approved; changed, declined, revoked or expired ones stay."),
    Claim("hold-own", "Nobody answers a call made for them, nor one of an agent that they made or own."),
    Claim("hold-delegation", "The right to answer is lent for a time, and lends nothing that the lender could not do."),
    Claim("hold-fatigue", "An agent that asks too often is refused instead of held, and an alert says so."),
    Claim("hold-hunting", "Everything that happens to a hold is a row that can be hunted in, once."),
    # -- Copilot Studio's webhook ---------------------------------------------------------------------------------
    Claim("webhook-contract", "Copilot Studio's questions before tool calls are answered in its contract's shapes."),
    Claim("webhook-callers", "Who asks must hold a token of the tenant, for this endpoint, of an app on the list; each refusal says why."),
    Claim("webhook-provenance", "A recipient that only an earlier tool output named is blocked; one that the user named is not."),
    Claim("webhook-revocation", "Blocking an agent or a tool, or revoking a user, counts for the very next question."),
    Claim("webhook-deadline", "Every question is answered by its deadline, also while a detector does not come to an end."),
    Claim("webhook-no-answer", "A question that cannot be understood or decided on is answered with a block, never with an error."),
    Claim("webhook-audit", "A door that only watches records what it would do, and blocks what an operator has blocked."),
    Claim("sessions-told", "Streaks of refusals, attempts that go on, new tools and unusual volume each raise their alert, once."),
    Claim("sessions-honest", "A busy but honest agent raises none of them, and what is new is not told while an agent learns."),
    # -- alignment ------------------------------------------------------------------------------------------------
    Claim("alignment-asks", "An action without an address that only a stranger's text asked for is held, with the optional encoder."),
    Claim("alignment-evidence", "The reason names the sentence that the call is nearest to, and where it stands."),
    Claim("alignment-replays", "The score is on record with the decision, which replays without an encoder."),
    Claim("alignment-optional", "Without the encoder the guard works as ever, and says that it is missing."),
    Claim("alignment-tightens", "An encoder that is late, fails or is missing where a policy is enforced asks; it never stalls a worker."),
    Claim("dojo-goal", "Through the real gateway, careful tracing with alignment leaves at most 6 of AgentDojo's 916 attacks an effect: "
          "plain, obfuscated, laundered."),
    Claim("counts-host", "Budgets count what all gateway workers of a host let through, as of a fifth of a second ago."),
    # -- responses ------------------------------------------------------------------------------------------------
    Claim("response-notified", "Who answers for a compromised user or agent, and the SOC, are told by mail, once, and never the user."),
    Claim("channels", "Webhooks are signed so that receivers can verify them, and no name becomes markup in Teams or Slack."),
    Claim("notice-links", "A link that acknowledges a notice works once, for a while, for its notice; the database holds no token."),
    Claim("notice-harmless", "Nothing that an agent's name says becomes a link, markup or a line of its own in a message."),
    Claim("response-local-first", "When confirming a compromise answers, the next call is refused, whatever the identity provider does."),
    Claim("response-read-back", "What the identity provider was asked for counts only as far as it is read back, and stands as evidence."),
    Claim("response-retried", "A provider that is out of order is asked again, not before it said, until it works or has failed."),
    Claim("response-never-done", "A step that did not happen is never shown as done: failed or skipped, with why, and can be retried."),
    Claim("response-survives-crash", "kill -9 at any boundary of any step loses nothing, and tells nobody twice."),
    Claim("response-guards", "Nobody confirms a break-glass account, themselves or the last administrator; much needs a colleague."),
    Claim("response-on-incident", "The incident shows every step with its evidence, and its activity tells of each."),
    Claim("response-undone", "A confirmed compromise can be lifted, and no session from before works again."),
    Claim("response-remediated", "A new password after the revocation lifts the risk by itself; an older one does not."),
    Claim("response-agent", "A quarantined agent is refused at once, with its secret, its tokens and what it waited for."),
    Claim("playbooks-tested", "Every playbook of the product passes its own tests, and asks before it acts."),
    Claim("playbooks-propose", "A critical incident about a user is proposed to be confirmed compromised, and one click does it."),
    Claim("playbooks-once", "A playbook runs once for each incident, whatever restarts, and acts only where it was allowed to."),
    Claim("response-server", "A compromised tool server is refused for every agent, and who used it is listed."),
    # -- shared signals -------------------------------------------------------------------------------------------
    Claim("signals-refused", "A security event that is not right in every way changes nothing, and its sender is told why."),
    Claim("signals-revoke", "A session that its identity provider revokes is over at the gateways when the event is acknowledged."),
    Claim("signals-remediate", "A new password, told by the identity provider, ends a compromise only if it was set after the revoke."),
    Claim("signals-poll", "Security events that have to be fetched are taken once each and acknowledged; what is wrong is reported."),
    Claim("signals-response", "Receivers are told of a confirmed compromise in valid events, pushed and fetched: sessions, password, risk."),
    Claim("signals-told", "A revoke is told once to each receiver that asked, signed, in order, also to one that was down."),
    Claim("signals-receivers", "A receiver sees only its own stream, and events go only where an operator said."),
    Claim("global-revocation", "A registered issuer ends every session and token of a user in one request, and nobody else does."),
    Claim("scim-users", "A user that an identity provider tells of by SCIM is a user here, and is read back as told."),
    Claim("scim-deprovision", "Switching a user off by SCIM ends every session at once, however the provider says it."),
    Claim("scim-groups", "Who is put in a group by SCIM is in it at the next decision, and who is taken out is not."),
    Claim("scim-own-users", "A SCIM token opens the users and groups of one issuer and nothing else."),
    # -- conditional access ---------------------------------------------------------------------------------------
    Claim("access-laws", "One more enabled access policy never loosens, report-only ones change nothing, order does not matter, "
          "exclusions win."),
    Claim("access-gateway", "At every call each control of conditional access refuses whom it must, by a stable code without the policy's "
          "text, and nobody else."),
    Claim("access-sts", "No token is issued to whom conditional access refuses one; what a better sign-in would mend is said."),
    Claim("access-report-only", "A report-only access policy refuses nobody, and whom it would have refused is on record."),
    Claim("access-log", "Every refusal of conditional access is a row that leads to its decision, and the decision replays."),
    Claim("access-cae", "Clients that declared cp1 get a claims challenge at a step-up and at a revoke; others do not."),
    Claim("access-checked", "An access policy that cannot be meant is refused with every problem and its place."),
    Claim("access-lock-out", "An access policy that would lock everybody out is published only with a confirmation."),
    Claim("access-published", "Access policies are versioned, audited and written only by those who hold access.write."),
    Claim("access-defaults", "Four access policies come with the product; a user of high risk has to change the password by them."),
    Claim("access-graph", "Entra's policies come in and go out in Graph's shape; what cannot be enforced is told and kept, never dropped."),
    Claim("access-what-if", "An access policy says whom it would have hit in the past days, and what it says to one named sign-in."),
    Claim("access-cli", "Access policies are listed, applied, exported and tried from a shell."),
    Claim("access-pages", "A page lists access policies with state and last hits, and switches them for those who may."),
    # -- the invariants -------------------------------------------------------------------------------------------
    Claim("invariant-1", "A call that is not allowed never reaches the tool server."),
    Claim("invariant-2", "When in doubt, refuse: broken policy, missing state, lost control plane all refuse."),
    Claim("faulty-detector", "A detector or condition that raises, hangs or eats memory lets no call through and stalls no worker."),
    Claim("results-judged", "Where an enforced policy looks at results, none reaches its caller unjudged, whole, in pieces or as events."),
    Claim("poisoned-tools", "A tool whose definition tells the model what to do is held until somebody approves it as it is."),
    Claim("catalogue-through-doors", "Each alert that an inline detector can raise is raised for its attack and not for its benign twin."),
    Claim("invariant-3", "A verdict is recorded before the call goes out, and the record survives kill -9."),
    Claim("invariant-4", "After a revoke or block is acknowledged, no call that starts later is allowed on this host."),
    Claim("matrix", "Each role gets at each route exactly what it may, of its own and of what is others'."),
    Claim("invariant-5", "Nobody unblocks their own agent; the IT role never receives low, medium or resolved alerts."),
    Claim("invariant-6", "A user's KQL reads only what the user may see, and is never silently wrong."),
    Claim("invariant-7", "Message contents are kept apart; reading them needs a role and leaves an audit entry."),
    Claim("invariant-8", "Every change to state leaves an entry in a hash-chained audit log that verifies offline."),
    # -- protocol -------------------------------------------------------------------------------------------------
    Claim("mcp-client-unmodified", "The official MCP client works through the gateway unmodified, in both protocol versions."),
    Claim("telemetry-unmodified", "Agents of Agent 365's SDK, OpenTelemetry and its instrumentations are moved here by variables alone."),
    Claim("telemetry-exactly-once", "Every acknowledged span is stored exactly once, whatever is killed and sent again."),
    Claim("telemetry-quarantine", "A bad span is quarantined with its reason and never takes a neighbour along."),
    Claim("graph-client-unmodified", "Graph's own client reads, triages and comments on incidents, unmodified."),
    Claim("incident-graph", "The incident's graph marks the way of the attack, and draws what was stopped as stopped."),
    Claim("incident-graph-groups", "Grouping an incident's graph loses no node: each is shown or counted, and opened by pages."),
    Claim("blast-radius", "Blast radius follows bindings, hand-overs, child agents, sharing and stored credentials to what they reach."),
    Claim("exposure-kql", "ExposureGraphNodes and ExposureGraphEdges hold exactly what the blast radius walks over, now."),
    Claim("incidents-any-order", "The same events give the same alerts and incidents, in any order, late or doubled."),
    Claim("runner-killed", "A runner that is killed at any moment loses no alert and raises none twice."),
    Claim("incident-containment", "An incident warns until those that it is about are really contained."),
    Claim("case-file", "An incident is handed on as signed evidence that anybody can check offline."),
    Claim("idp-connectors", "What is asked of an identity provider is read back there; what it cannot do is refused, never silently done."),
    Claim("risk-alerts", "A grave alert raises the risk of those it is about, once; a false alarm takes it back."),
    Claim("risk-confirmed", "A confirmed compromise stays high until it is dismissed, confirmed safe or remediated."),
    Claim("risk-agents", "Risk detections about agents bear Microsoft's names and are computed as things happen."),
    Claim("risk-graph", "Clients of Graph's identity protection API read risky users, risky agents and detections."),
    Claim("sign-in-events", "Every sign-in, token and refusal becomes a row, once, and no row holds a secret."),
    Claim("idp-risk", "Whom Entra sees at risk by itself is at risk here, until Entra sees it no more or somebody here judged it."),
    Claim("idp-sync", "Who is disabled in a directory loses sessions here; a listing that breaks off or shrinks disables nobody."),
    Claim("what-if", "A policy is tried on the calls of past days before anybody publishes it."),
    Claim("manifest-idempotent", "Applying a manifest twice changes nothing the second time."),
    Claim("replay", "Replaying a recorded decision gives the same verdict."),
)  # fmt: skip
