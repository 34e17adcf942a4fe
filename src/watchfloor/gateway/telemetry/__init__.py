"""The telemetry doors: what agents tell of themselves, taken in exactly once, checked, cleaned and mapped to tables.

    decode (otlp_proto, otlp_json, events_json)  bytes -> spans, and what is no span with its reason
    mapping, redact                              a span -> rows of the event tables
    intake                                       rows of many requests -> one durable append, each span once
    http, grpc                                   the doors; receiver.py builds the process

A process of its own (``watchfloor receiver``), so that a flood of telemetry never delays a tool call.
"""
