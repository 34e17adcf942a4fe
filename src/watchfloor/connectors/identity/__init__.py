"""Identity providers that can be acted upon: one adapter of ``identity.connector`` for each kind of them.

    embedded   our own directory: users whom nobody else keeps
    ldap       OpenLDAP with ppolicy (``ldap_wire``, ``ldap_client``), sessions in LemonLDAP::NG (``lemonldap``)
    scim       any provider that speaks SCIM 2
    entra      Microsoft Graph; keycloak, okta: their admin APIs

``registry`` builds them of what a manifest declared; ``sync`` brings what a directory lists to our users. Calls go out
through ``http`` or ``ldap_client`` alone, which hold the walls: time, size, TLS, no redirects.
"""
