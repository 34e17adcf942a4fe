"""Zava's agents: no language model, but they really read what they are told and what their tools answer.

``plans`` is the language they are written in, ``planner`` runs a plan without touching the network, ``obedience`` finds
instructions in text, ``connection`` speaks MCP through the gateway, ``worker`` plays one conversation.
"""
