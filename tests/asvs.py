"""Which requirements of OWASP's Application Security Verification Standard 5.0 the product is held to, and how it meets them.

In ten groups, as the work on identity is divided. Each requirement is named by at least one test
(``@pytest.mark.asvs("7.4.1")``) or says in ``gap`` what is missing; ``tests/test_asvs.py`` holds both to it, and
``docs/asvs.md`` is written from here and from the tests. The standard's own words are not repeated: look them up by id.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """``what`` the product does for the requirement with this id; ``gap``: what it does not."""

    id: str
    what: str
    gap: str = ""


R = Requirement

GROUPS: dict[str, tuple[Requirement, ...]] = {
    "Sessions": (
        R("7.2.1", "A session is looked up at the server, by the hash of its token; nothing in the token is believed."),
        R("7.2.2", "Sessions are made at sign-in; tokens for scripts are made for one operator and expire."),
        R("7.2.3", "A session's token is 256 bits from the system's generator, and only its hash is stored."),
        R("7.2.4", "Each sign-in makes a session of its own and ends the one that the browser came with."),
        R("7.3.1", "A session ends after 30 minutes without use."),
        R("7.3.2", "A session ends after 12 hours, in use or not."),
        R("7.4.1", "Signing out ends the session at the server; no page is kept by a browser, so going back shows none."),
        R("7.4.2", "Disabling ends every session and token at once: of operators, of users, here and by the provider."),
        R("7.4.3", "A new password or a new second factor ends every other session."),
        R("7.4.4", "Every page offers to sign out."),
        R("7.4.5", "Owners end all sessions of an operator, the SOC those of a user."),
        R("7.5.1", "A new password, adding and removing a second factor take the password again, and guessing is slowed down."),
        R("7.5.2", "Operators see their sessions and tokens and end them one by one.",
          "Ending one of one's own sessions does not take the password again."),
        R("7.5.3", "What an account is grave for takes a second operator: nobody confirms it alone."),
        R("7.6.1", "The provider's logout ends sessions here; a token never outlives the sign-in that it was made from, and "
          "what was revoked stays revoked for sign-ins of before."),
        R("7.6.2", "A sign-in through the provider ends only in the browser that began it."),
    ),
    "Tokens": (
        R("9.1.1", "Every bit of a token is covered by its signature, which is checked first."),
        R("9.1.2", "RS256 and nothing else; none, other algorithms and HMAC with a public key are refused."),
        R("9.1.3", "Keys come from the key set of the issuer that is configured; what a header names is refused."),
        R("9.2.1", "Tokens count between nbf and exp, and ours live ten minutes at most."),
        R("9.2.2", "Every door takes one type of token: ID tokens, logout tokens, security events and ours open no other."),
        R("9.2.3", "A token is for one audience, which is this very tool server or door."),
        R("9.2.4", "The token service gives one token for one tool server that the agent is bound to."),
        R("10.1.2", "What a provider answers counts once, within ten minutes, in the browser and for the request that asked."),
        R("10.2.1", "state, nonce and PKCE (S256) in every sign-in; a provider that does not know S256 is not used."),
        R("10.2.2", "The issuer in the provider's answer is compared: a mix-up is refused."),
        R("10.3.1", "The gateway takes tokens for the server that is called, and no others."),
        R("10.3.2", "What a token may do follows from bindings, and can only be narrowed."),
        R("10.3.3", "Who a user is follows from issuer and subject together."),
        R("10.3.4", "Conditional access asks for several factors and for a fresh sign-in by amr and auth_time."),
        R("10.4.10", "Agents prove themselves by secrets, which are compared alike whether the id exists or not."),
        R("10.4.11", "An agent that is bound to nothing gets no token."),
        R("10.5.1", "An ID token without the nonce of this sign-in is refused."),
        R("10.5.2", "An operator of the provider is known by subject from the first sign-in on; names take nothing over."),
        R("10.5.3", "Metadata that names another issuer, or addresses without TLS, is not used."),
        R("10.5.4", "An ID token for another client is refused, also where it is for ours besides and azp says otherwise."),
        R("10.5.5", "A logout token needs its event, has no nonce, counts once and is fresh."),
    ),
    "Browsers": (
        R("1.2.1", "Pages are built from parts that escape what they are given."),
        R("3.2.2", "What outsiders name things is shown as text."),
        R("3.3.1", "Over TLS the cookie is Secure."),
        R("3.3.2", "The cookie is SameSite=Lax; sign-on's own lives ten minutes."),
        R("3.3.3", "Over TLS the cookie has the prefix __Host-."),
        R("3.3.4", "Scripts cannot read the cookie, and no answer repeats it."),
        R("3.4.1", "Over TLS every answer asks for TLS for a year, on subdomains, too."),
        R("3.4.2", "No answer opens anything to other origins."),
        R("3.4.3", "Every answer has a content security policy that starts from nothing, without scripts on pages."),
        R("3.4.4", "Every answer forbids guessing its type."),
        R("3.4.5", "Other sites are not told where a visitor came from."),
        R("3.4.6", "No page can be framed."),
        R("3.5.1", "Every unsafe route takes the session's CSRF token and refuses other origins and sites."),
        R("3.5.3", "Reading changes nothing: no route with GET changes what the product knows or does."),
        R("3.7.2", "After signing in one is sent to a path of ours, never elsewhere."),
    ),
    "Whose is it": (
        R("8.2.1", "Each role is let in exactly where its permissions say; generated from the table of routes."),
        R("8.2.2", "Others' sessions, runs, held calls and delegations are not there; what an issuer provisions, no other sees."),
        R("8.2.3", "The IT role gets unresolved high and critical alerts and nothing of others, on every route; "
          "contents are shown, hunted in and exported only for who may read them."),
        R("8.3.1", "Every route declares one permission, which the server asks for."),
        R("8.3.2", "What is taken away, revoked or blocked is refused at the next call, on other hosts within a second."),
        R("8.3.3", "A call on a user's behalf is judged by the user's own state, and the mode is the registry's, not the caller's."),
        R("8.4.1", "An issuer's SCIM token, its events and its global revocation reach users of that issuer only."),
        R("15.3.3", "A body with a member that nobody asked for is refused, on every route."),
    ),
    "Separation of duties": (
        R("2.3.1", "An agent changes state by the table of transitions alone."),
        R("2.3.2", "One operator may do so much in ten minutes; more takes a colleague."),
        R("2.3.5", "Whoever asks does not approve; nobody lets their own agent, call or account through, whatever happened before.",
          "Whoever blocked an agent may unblock it, if they did not build it."),
    ),
    "Calls that go out": (
        R("1.3.6", "Addresses are checked when they are written and when they are called: scheme, port, form; link-local, "
          "multicast and metadata addresses are refused, also behind a name, whose address is looked up once."),
        R("13.2.4", "What is called stands in settings, the manifest, or a list of an operator; receivers name nothing themselves."),
        R("15.3.2", "Redirects are not followed."),
    ),
    "The audit log": (
        R("16.2.5", "Passwords, tokens, codes and secrets are neither stored in clear nor logged."),
        R("16.3.1", "Each sign-in, its failure and its end is a row."),
        R("16.3.2", "Who is refused for want of a permission is logged with what was asked for."),
        R("16.4.1", "Text that would fake a line is made visible."),
        R("16.4.2", "Entries are chained by hashes and signed; one that was edited, deleted, moved or cut off is named.",
          "The database role of the server may change rows: the chain tells of it, nothing forbids it."),
        R("16.4.3", "Checkpoints stand in a file of their own; entries are sent to a SIEM as they are made."),
        R("16.5.1", "What nobody foresaw is answered with an id and nothing else."),
        R("16.5.2", "An identity provider that is down stops nobody until its keys are too old."),
        R("16.5.3", "A broken policy, a missing state, a full disk, a lost control plane: all refuse."),
        R("16.5.4", "Every exception becomes an answer and a log line."),
    ),
    "Races": (
        R("2.3.4", "A hold is answered once, a step of a response is done by one server, an approval is used by one call."),
        R("15.4.2", "A check and what depends on it are one transaction: a revoke that was acknowledged holds for every call that "
          "starts later."),
    ),
    "Real identity providers": (
        R("6.8.1", "A token of one identity provider does not speak for a user of another."),
        R("7.1.3", "What is asked of a provider is read back there, run against real ones; docs/identity-providers.md says what each can do."),
    ),
    "Doors of machines, and who knocks": (
        R("4.1.3", "Headers that name a user, an agent or an address are believed of nobody but a proxy that is configured."),
        R("4.1.5", "Security events are signed, come with their shared secret, and count once."),
        R("6.3.1", "Guessing passwords, codes and secrets is slowed down by account and address, without locking others out."),
        R("6.3.2", "Administrators get nowhere without a second factor."),
        R("6.3.8", "An unknown name is answered like a wrong password, in the same words and the same time."),
        R("6.4.1", "The set-up token is random, works once, for one day, and is stored as a hash."),
        R("6.4.4", "A lost phone is an owner's business, and ends the account's sessions."),
        R("6.5.1", "A code, a recovery code and a challenge count once."),
    ),
}  # fmt: skip

REQUIREMENTS: tuple[Requirement, ...] = tuple(each for group in GROUPS.values() for each in group)
