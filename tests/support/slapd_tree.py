"""The people of the test's LDAP server: three trees, shaped as those of OpenLDAP, Active Directory and Domino.

The suffixes are ``OPENLDAP``, ``ACTIVE_DIRECTORY`` and ``DOMINO``; in each a service account ``SERVICE[suffix]``.
Everybody's password is ``PASSWORD``, unless said; anna has anna@example.org and a.smith@example.org, bob is disabled.
"""

import base64
from collections.abc import Iterator, Sequence

OPENLDAP = "dc=example,dc=org"
ACTIVE_DIRECTORY = "dc=corp,dc=example"
DOMINO = "o=ACME"
SERVICE = {
    OPENLDAP: f"cn=pillarbox,{OPENLDAP}",
    ACTIVE_DIRECTORY: f"cn=pillarbox,{ACTIVE_DIRECTORY}",
    DOMINO: f"cn=Mail Search,{DOMINO}",
}
PASSWORD = "right: ünïcödé and spaces"
SERVICE_PASSWORD = "of the service account"

Values = str | Sequence[str]


def ldif(dn: str, **attributes: Values) -> str:
    """One record, every value in base64. ``_`` in a name stands for "-"."""
    lines = [f"dn:: {_base64(dn)}"]
    for name, values in attributes.items():
        for value in [values] if isinstance(values, str) else values:
            lines.append(f"{name.replace('_', '-')}:: {_base64(value)}")
    return "\n".join(lines) + "\n"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _service(suffix: str) -> str:
    name = SERVICE[suffix].split(",")[0][3:]
    return ldif(SERVICE[suffix], objectClass=["person"], cn=name, sn=name, userPassword=SERVICE_PASSWORD)


def people(count: int) -> Iterator[str]:
    """So many more in the OpenLDAP tree: user0, user1, ..."""
    for number in range(count):
        login = f"user{number}"
        yield ldif(
            f"uid={login},ou=people,{OPENLDAP}",
            objectClass=["inetOrgPerson"],
            uid=login,
            cn=f"User {number}",
            sn=str(number),
            mail=f"{login}@example.org",
            userPassword=f"password {number}",
        )


def openldap() -> Iterator[str]:
    """inetOrgPerson below ou=people, groups below ou=groups."""
    yield ldif(OPENLDAP, objectClass=["dcObject", "organization"], dc="example", o="Example")
    yield _service(OPENLDAP)
    for unit in ("people", "groups"):
        yield ldif(f"ou={unit},{OPENLDAP}", objectClass="organizationalUnit", ou=unit)

    def person(login: str, **more: Values) -> str:
        given: dict[str, Values] = {"cn": login, "sn": login, "userPassword": PASSWORD} | more
        uid = login.replace(",", "\\,")
        return ldif(
            f"uid={uid},ou=people,{OPENLDAP}", objectClass=["inetOrgPerson", "mailRecipient"], uid=login, **given
        )

    yield person("anna", mail="Anna@Example.org", mailAlternateAddress=["a.smith@example.org", "no address"])
    yield person("bob", mail="bob@example.org")
    yield person("carol", mail="carol@example.org", nsAccountLock="TRUE")
    yield person("twin1", mail="twin@example.org")
    yield person("twin2", mail="twin@example.org")
    yield person("o,dd (name)*", mail="odd@example.org")
    yield person("jörg", mail="joerg@example.org")
    yield person("crm", mail="crm@example.org")
    yield ldif(
        f"uid=nopassword,ou=people,{OPENLDAP}",
        objectClass="inetOrgPerson",
        uid="nopassword",
        cn="nobody",
        sn="nobody",
        mail="nopassword@example.org",
    )
    where = f"ou=people,{OPENLDAP}"
    for group, member in (("disabled", "bob"), ("applications", "crm"), ("mail users", "anna")):
        dn = f"cn={group},ou=groups,{OPENLDAP}"
        yield ldif(dn, objectClass="groupOfNames", cn=group, member=f"uid={member},{where}")


GROUPS_IN_GROUPS = {
    f"cn=applications,ou=groups,{ACTIVE_DIRECTORY}": [f"cn=robots,ou=groups,{ACTIVE_DIRECTORY}"],
    f"cn=robots,ou=groups,{ACTIVE_DIRECTORY}": [f"cn=CRM,ou=staff,{ACTIVE_DIRECTORY}"],
}


def active_directory() -> Iterator[str]:
    """user and group objects as a domain controller shows them."""
    yield ldif(ACTIVE_DIRECTORY, objectClass=["dcObject", "organization"], dc="corp", o="Corp")
    yield _service(ACTIVE_DIRECTORY)
    for unit in ("staff", "groups"):
        yield ldif(f"ou={unit},{ACTIVE_DIRECTORY}", objectClass="organizationalUnit", ou=unit)

    def person(name: str, login: str, **more: Values) -> str:
        given: dict[str, Values] = {
            "userPrincipalName": f"{login}@corp.example",
            "mail": f"{login}@example.org",
            "userAccountControl": "512",
            "accountExpires": "9223372036854775807",
            "lockoutTime": "0",
            "userPassword": PASSWORD,
        }
        dn = f"cn={name},ou=staff,{ACTIVE_DIRECTORY}"
        return ldif(dn, objectClass="user", cn=name, sn=name, sAMAccountName=login, **(given | more))

    addresses = ["SMTP:Anna@example.org", "smtp:a.smith@example.org", "X500:/o=Corp/cn=anna", "sip:anna@corp.example"]
    yield person("Anna Smith", "anna", proxyAddresses=addresses)
    yield person("Bob", "bob", userAccountControl="514")
    yield person("Late", "late", accountExpires="129000000000000000")
    yield person("Never", "never", accountExpires="0")
    yield person("Locked", "locked", lockoutTime="133000000000000000", msDS_User_Account_Control_Computed="16")
    yield person("Was Locked", "waslocked", lockoutTime="133000000000000000", msDS_User_Account_Control_Computed="0")
    yield person("Old Password", "oldpassword", msDS_User_Account_Control_Computed="8388608")
    yield person("CRM", "crm")
    for number in ("52e", "530", "532", "533", "701", "773", "775"):
        yield person(f"Data {number}", f"data{number}", userPassword="another")
    yield ldif(
        f"cn=PC1,ou=staff,{ACTIVE_DIRECTORY}", objectClass="computer", cn="PC1", sn="PC1", sAMAccountName="pc1$"
    )
    for dn, members in GROUPS_IN_GROUPS.items():
        yield ldif(dn, objectClass="group", cn=dn[3:].split(",")[0], member=members)


def domino() -> Iterator[str]:
    """dominoPerson entries: the entries of User name are cn, the short name is uid."""
    yield ldif(DOMINO, objectClass="organization", o="ACME")
    yield _service(DOMINO)
    yield ldif(f"ou=Sales,{DOMINO}", objectClass="organizationalUnit", ou="Sales")

    def person(dn: str, cn: Values, **more: Values) -> str:
        return ldif(dn, objectClass="dominoPerson", cn=cn, userPassword=PASSWORD, **more)

    yield person(
        f"CN=Anna Smith,{DOMINO}",
        ["Anna Smith", "anna", "a.smith@example.org"],
        uid="asmith",
        givenName="Anna",
        sn="Smith",
        mail="anna@example.org",
    )
    yield person(f"CN=Bob,{DOMINO}", ["Bob", "Robert/Sales/ACME"], uid="rbob", sn="Builder", mail="bob@example.org")
    yield person(
        f"CN=Jada Correr,OU=Sales,{DOMINO}",
        ["Jada Correr"],
        uid=["jcorrer", "jada.correr@example.org"],
        givenName="Jada",
        sn="Correr",
        mail="Jada_Correr@example.org",
    )
    yield person(f"CN=Jada Correr,{DOMINO}", ["Jada Correr"], uid="jada2", sn="Correr", mail="jada2@example.org")
    yield person(f"CN=Ünal Öz,{DOMINO}", ["Ünal Öz"], uid="uoz", givenName="Ünal", sn="Öz", mail="oz@example.org")
    yield person(f"CN=Head/Deputy,{DOMINO}", ["Head/Deputy"], uid="head", sn="Head", mail="head@example.org")
    yield ldif(f"CN=Terminations,{DOMINO}", objectClass="dominoGroup", cn="Terminations", member=f"CN=Bob,{DOMINO}")
