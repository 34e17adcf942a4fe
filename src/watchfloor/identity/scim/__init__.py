"""Provisioning: an identity provider tells us of its users by SCIM 2 (RFC 7643, RFC 7644).

``documents`` has the attributes, ``changes`` applies PATCH to a document, ``filters`` reads filters, ``users`` turns
documents into users.
"""
