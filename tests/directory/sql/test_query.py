"""query.py: parameters are found where they are parameters."""

import pytest

from pillarbox.directory.sql.query import check, parameters, renamed

QUERY = """
SELECT ':login' AS a, "x:login" AS b, 'it''s :login', $$ :login $$, $t$ $$ :login $t$ -- :login
, x::text, /* :login */ 100 % 7 FROM t WHERE n = :login AND d=:domain;
"""


def test_only_parameters_are_renamed_and_the_rest_is_escaped() -> None:
    assert parameters(QUERY) == {"login", "domain"}
    written = renamed(QUERY, "%({})s".format, lambda text: text.replace("%", "%%"))
    assert written.endswith("100 %% 7 FROM t WHERE n = %(login)s AND d=%(domain)s")
    assert written.replace("%(login)s", ":login").replace("%(domain)s", ":domain").replace("%%", "%") + ";\n" == QUERY


@pytest.mark.parametrize(
    "query",
    [
        "SELECT password FROM t WHERE a = :login",
        " -- people\nWITH x AS (SELECT 1) SELECT password FROM t WHERE a = :local AND b = :domain ;\n",
        "select password from t where a = ':x' || :login",
    ],
)
def test_a_query_that_reads_by_the_login_is_taken(query: str) -> None:
    check(query)


REFUSED = {
    "SELECT password FROM t": "neither",
    "SELECT password FROM t WHERE d = :domain": "neither",
    "SELECT password FROM t WHERE a = ':login'": "neither",
    "SELECT password FROM t WHERE a = :login AND b = ': login'": "",
    "SELECT password FROM t WHERE a = :login OR a = ':login'": "in quotes",
    "SELECT password FROM t WHERE a = :user": ":user",
    "DELETE FROM t WHERE a = :login": "no SELECT",
    "/* SELECT */ UPDATE t SET a = :login": "no SELECT",
    "SELECT 1; SELECT :login": "two statements",
    "SELECT E'\\'' WHERE a = :login": "E'",
}


@pytest.mark.parametrize("query", [query for query, why in REFUSED.items() if why])
def test_another_query_is_refused_with_the_reason(query: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[query]):
        check(query)
