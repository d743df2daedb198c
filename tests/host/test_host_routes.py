"""Which path a route template matches, and which of two templates comes first."""

import pytest

from local.host.routes import RouteTemplate


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("health", "health", {}),
        ("health", "HEALTH/", {}),
        ("health", "health/more", None),
        ("shards/{id}", "shards/sh_1", {"id": "sh_1"}),
        ("shards/{id}", "shards", None),
        ("shards/{id}", "shards/", None),
        ("shards/{id}", "shards/a/b", None),
        ("shards/{id}", "shards/a%20b%2Fc", {"id": "a b/c"}),
        ("items/{id:int}", "items/-42", {"id": "-42"}),
        ("items/{id:int}", "items/4x", None),
        ("items/{id:int}", "items/99999999999", None),
        ("items/{id:long}", "items/99999999999", {"id": "99999999999"}),
        ("items/{id:int:min(1)}", "items/0", None),
        ("items/{id:range(2, 4)}", "items/3", {"id": "3"}),
        ("items/{id:length(2,3)}", "items/abcd", None),
        ("items/{id:maxlength(3)}", "items/abc", {"id": "abc"}),
        ("items/{id:minlength(3)}", "items/ab", None),
        ("items/{id:alpha}", "items/abc1", None),
        ("items/{id:bool}", "items/True", {"id": "True"}),
        (
            "items/{id:guid}",
            "items/11111111-2222-3333-4444-555555555555",
            {"id": "11111111-2222-3333-4444-555555555555"},
        ),
        ("items/{id:max(9)}", "items/10", None),
        ("list/{page?}", "list", {}),
        ("list/{page?}", "list/3", {"page": "3"}),
        ("list/{page:int?}", "list/x", None),
        ("files/{*path}", "files/a/b%20c.txt", {"path": "a/b c.txt"}),
        ("files/{*path}", "files", {"path": ""}),
        ("{tenant}/x/{id}", "acme/x/1", {"tenant": "acme", "id": "1"}),
        ("", "", {}),
    ],
)
def test_a_path_matches_or_not(template: str, path: str, expected: dict[str, str] | None) -> None:
    assert RouteTemplate(template).match(path) == expected


def test_narrower_templates_come_first() -> None:
    templates = ["items/{*rest}", "items/{id}", "items/new", "items/{id:int}"]
    ordered = sorted(map(RouteTemplate, templates), key=lambda route: route.sort_key)
    assert [route.template for route in ordered] == ["items/new", "items/{id:int}", "items/{id}", "items/{*rest}"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("a/{b", "must be a literal or one"),
        ("a/v{b}", "must be a literal or one"),
        ("{a}/{a}", "twice"),
        ("{*rest}/end", "must come last"),
        ("{a?}/end", "must come last"),
        ("{a:regex(x)}", "is not one this host knows"),
        ("{a:min}", "lacks its numbers"),
        ("{a:min(x)}", "lacks its numbers"),
    ],
)
def test_a_template_that_cannot_be_served_is_refused(template: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RouteTemplate(template)
