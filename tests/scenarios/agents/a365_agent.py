"""An agent on Agent 365's observability SDK, 1.0 or 2.0. Prints the spans that it tells of.

A person asks it, then another agent. It asks its model, looks a customer up, is not let send an e-mail, and answers.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from microsoft_agents_a365.observability import core as sdk
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

HAS_GUARDRAILS = hasattr(sdk, "ApplyGuardrailScope")
MODEL, PROVIDER = "gpt-5", "openai"
CHANNEL = sdk.Channel(name="msteams", link="https://teams.example/l/chat/19:meeting")
GRIFFIN = sdk.UserDetails(
    user_id="griffin", user_email="griffin@zava.example", user_name="Griffin Hale", user_client_ip="198.51.100.7"
)


def _details(agent_id: str, name: str, **more: Any) -> sdk.AgentDetails:
    if HAS_GUARDRAILS:
        more["agent_type"] = "Foundry"
    return sdk.AgentDetails(
        agent_id,
        name,
        agent_description=f"{name} of Zava",
        agent_blueprint_id="33333333-3333-4333-8333-333333333333",
        agent_platform_id="zava-platform",
        tenant_id="11111111-1111-4111-8111-111111111111",
        icon_uri="https://zava.example/agent.png",
        provider_name=PROVIDER,
        agent_version="1.4.2",
        **more,
    )


def _ask_model(request: sdk.Request, agent: sdk.AgentDetails) -> None:
    details = sdk.InferenceCallDetails(
        sdk.InferenceOperationType.CHAT, MODEL, PROVIDER, endpoint=sdk.ServiceEndpoint("models.example", 8443)
    )
    if HAS_GUARDRAILS:
        details.responseModel, details.cacheReadInputTokens = "gpt-5-2026-08-01", 64
    with sdk.InferenceScope.start(request, details, agent, GRIFFIN) as inference:
        inference.record_input_tokens(812)
        inference.record_output_tokens(47)
        inference.record_finish_reasons(["tool_call"])
        inference.record_thought_process("The ledger first, then a reminder.")
        call = sdk.ToolCallRequestPart("lookup_customer", "call_1", {"customer": "Fabrikam"})
        answer = sdk.OutputMessage(sdk.MessageRole.ASSISTANT, [call], finish_reason="tool_call")
        inference.record_output_messages(sdk.OutputMessages([answer]))


def _look_up(request: sdk.Request, agent: sdk.AgentDetails) -> None:
    details = sdk.ToolCallDetails(
        "lookup_customer", {"customer": "Fabrikam"}, "call_1", "Looks a customer up.", sdk.ToolType.FUNCTION.value
    )
    with sdk.ExecuteToolScope.start(request, details, agent, GRIFFIN) as tool:
        if HAS_GUARDRAILS:
            _guard(request, agent, "call_1")
        tool.record_response({"owes": 1250, "since": "March"})


def _send(request: sdk.Request, agent: sdk.AgentDetails) -> None:
    arguments = {"to": "mallory@evil.example", "body": "Invoice 4711 is overdue."}
    details = sdk.ToolCallDetails(
        "send_email", arguments, "call_2", "Sends an e-mail.", "extension", sdk.ServiceEndpoint("mail.example", 8025)
    )
    with sdk.ExecuteToolScope.start(request, details, agent, GRIFFIN):
        if HAS_GUARDRAILS:
            _guard(request, agent, "call_2", data_leak=("medium", 0.41), prompt_injection=("high", 0.93))
        raise PermissionError("the recipient is not ours")


def _guard(request: sdk.Request, agent: sdk.AgentDetails, call: str, **findings: tuple[str, float]) -> None:
    details = sdk.GuardrailDetails(
        target_type=sdk.GuardrailTargetType.TOOL_CALL,
        decision_type=sdk.GuardrailDecisionType.ALLOW,
        target_id=call,
        decision_code="external-recipient",
        guardian_id="guard-1",
        guardian_name="Mail Guard",
        guardian_provider_name="zava",
        guardian_version="3.1",
        policy_id="no-strangers",
        policy_name="No strangers",
        policy_version="7",
        content_input_hash="5f3c0d0f",
        content_modified=False,
        external_event_id="case-81",
    )
    with sdk.ApplyGuardrailScope.start(details, agent, request, GRIFFIN) as guardrail:
        for category, (severity, score) in findings.items():
            guardrail.record_finding(
                sdk.GuardrailFinding(
                    category,
                    severity,
                    policy_decision_type="deny",
                    policy_id="no-strangers",
                    risk_score=score,
                    risk_metadata=["recipient", "domain"],
                )
            )
        if findings:
            guardrail.record_content_output("Nothing was sent.")
            guardrail.record_decision(sdk.GuardrailDecisionType.DENY, "The recipient is not a customer.")


def _answer(request: sdk.Request, agent: sdk.AgentDetails, caller: sdk.CallerDetails) -> None:
    endpoint = sdk.InvokeAgentScopeDetails(sdk.ServiceEndpoint("agents.example", 9443))
    with sdk.InvokeAgentScope.start(request, endpoint, agent, caller) as invocation:
        _ask_model(request, agent)
        _look_up(request, agent)
        with suppress(PermissionError):
            _send(request, agent)
        answer = "Fabrikam owes 1250 since March."
        sdk.OutputScope.start(request, sdk.Response(answer), agent, GRIFFIN).dispose()
        invocation.record_response(answer)


def main() -> None:
    """Answer a person, and another agent."""
    sdk.configure(
        service_name="zava-billing",
        service_namespace="zava",
        exporter_options=sdk.Agent365ExporterOptions(
            token_resolver=lambda agent_id, tenant_id: os.environ["AGENT_TOKEN"]
        ),
    )
    sdk.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))

    asked = sdk.Request("What does Fabrikam owe us?", "session-9", CHANNEL, "conversation-person")
    about = sdk.BaggageBuilder().session_id("session-9").session_description("Dunning").channel_name("msteams")
    about.user_id(GRIFFIN.user_id).user_email(GRIFFIN.user_email).user_client_ip(GRIFFIN.user_client_ip)
    with about.build():
        _answer(asked, _details("zava-billing-agent", "Customer Billing Agent"), sdk.CallerDetails(GRIFFIN))

    asked = sdk.Request("Collect from Fabrikam.", None, None, "conversation-agent")
    dunning = {"agentic_user_id": "dunning", "agentic_user_email": "dunning@zava.example"}
    caller = sdk.CallerDetails(GRIFFIN, _details("zava-dunning-agent", "Dunning Agent", **dunning))
    billing = {"agentic_user_id": "billing", "agentic_user_email": "billing@zava.example"}
    agent = _details("zava-billing-agent", "Customer Billing Agent", **billing)
    _answer(asked, agent, caller)


if __name__ == "__main__":
    main()
