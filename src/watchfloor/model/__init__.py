"""The nouns of the product: what do we call things?

Frozen values with no behaviour beyond their own consistency. Every other room speaks in these words; this one
imports nothing but the standard library and knows neither how a thing is stored nor how it travels.
"""
