"""People of an LDAP server: OpenLDAP and its kin, Active Directory, Domino. backend.py is the way in."""
