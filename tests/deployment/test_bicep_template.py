"""The reader of Bicep: what it makes of a template, and that it passes nothing over that Azure would refuse."""

from pathlib import Path
from typing import Any

import pytest
from bicep_template import BicepError, Deployment, deploy, idle_names, parameters_of

GROUP = """targetScope = 'subscription'
resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg'
  location: 'here'
}
"""
CALL = """module inner 'inner.bicep' = {
  scope: group
  name: 'inner'
  params: {
    names: ['a', 'b']
  }
}
"""


def deployed(folder: Path, inner: str, main: str = GROUP + CALL, **parameters: Any) -> Deployment:
    (folder / "main.bicep").write_text(main)
    (folder / "inner.bicep").write_text("param names array\n" + inner)
    return deploy(folder / "main.bicep", parameters)


THING = """resource thing 'Some.Provider/things@2025-01-01' = [
  for (name, index) in names: {
    name: 'thing-${name}'
    properties: {
      number: index + 1
      first: index == 0 ? 'yes' : 'no'
      key: guid(name, 'x')
    }
  }
]
"""


def test_loops_modules_and_expressions_give_the_resources(tmp_path: Path) -> None:
    found = deployed(tmp_path, THING).of_type("Some.Provider/things")
    assert [one.name for one in found] == ["thing-a", "thing-b"]
    assert [one.body["properties"]["number"] for one in found] == [1, 2]
    assert [one.body["properties"]["first"] for one in found] == ["yes", "no"]
    assert len({one.body["properties"]["key"] for one in found}) == 2
    assert found[0].id.endswith("/resourceGroups/rg/providers/Some.Provider/things/thing-a")


def test_what_is_known_only_while_deploying_is_a_stand_in_that_modules_take(tmp_path: Path) -> None:
    (tmp_path / "taker.bicep").write_text(
        "param id string\nresource one 'Some.Provider/others@2025-01-01' = {\n  name: guid(id)\n}\n"
    )
    main = (
        GROUP
        + CALL
        + (
            "module taker 'taker.bicep' = {\n  scope: group\n  name: 'taker'\n"
            "  params: {\n    id: inner.outputs.principal\n  }\n}\n"
        )
    )
    inner = THING + "output principal string = '${thing[0].properties.principalId}!'\n"
    deployment = deployed(tmp_path, inner, main)
    assert len(deployment.of_type("Some.Provider/others")) == 1


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        ("resource x 'A.B/c@2025-01-01' = {\n", "is no Bicep"),
        ("var x = nobody\n", "inner.bicep:2: nobody is not declared"),
        ("var x = y\nvar y = x\n", "goes in a circle"),
        ("var x = 1\nvar x = 2\n", "x is declared twice"),
        ("var x = mystery('a')\n", "the function mystery is not known"),
        ("var x = resourceId('A.B/c/d', 'one')\n", "needs 2 names, not 1"),
        ("var x = loadTextContent('nothing.txt')\n", "nothing.txt"),
        ("var x = names[7]\n", "there are 2 of them"),
        ("var x = { a: 1 }.b\n", "there is no b, but a"),
        ("var x = { a: 1, a: 2 }\n", "a stands there twice"),
        ("param more string\n", "the parameter more is missing"),
        ("@allowed(['a'])\nparam more string = 'b'\n", "more is 'b'"),
        ("@maxLength(1)\nparam more string = 'bb'\n", "more is 'bb'"),
        ("param more int = 'b'\n", "is a int, not 'b'"),
        ("output o string = 3\n", "output o is no string"),
        ("resource x 'A.B/c' = {\n  name: 'x'\n}\n", "without an API version"),
        (THING + THING.replace("resource thing", "resource again"), "is deployed twice"),
        (
            THING + "resource y 'Some.Provider/y@2025-01-01' = {\n  name: thing[0].properties.z\n}\n",
            "before the deployment",
        ),
        (
            THING + "resource y 'Some.Provider/y@2025-01-01' = {\n  parent: thing[0]\n  name: 'y'\n}\n",
            "can't stand below",
        ),
        (
            THING + "resource y 'Some.Provider/y@2025-01-01' = if (thing[0].properties.z) {\n  name: 'y'\n}\n",
            "before the",
        ),
        (THING + "var x = empty(thing[0].properties.z)\n", "known only while deploying"),
        (
            "resource y 'Some.Provider/y@2025-01-01' = if (false) {\n  name: 'y'\n}\noutput o string = y.id\n",
            "not deployed with",
        ),
        ("module m 'nowhere.bicep' = {\n  name: 'm'\n}\n", "there is no nowhere.bicep"),
        ("module m 'main.bicep' = {\n  name: 'm'\n}\n", "its target is a subscription"),
        ("metadata m = 'x'\n", "metadata_declaration is not known"),
        ("@maybe()\n" + THING, "the decorator @maybe is not known"),
    ],
)
def test_what_can_not_be_deployed_is_refused(inner: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BicepError, match=told.replace("(", r"\(")):
        deployed(tmp_path, inner)


@pytest.mark.parametrize(
    ("main", "told"),
    [
        (GROUP + CALL.replace("names:", "other:"), "inner.bicep has no parameter other"),
        (GROUP + CALL.replace("['a', 'b']", "'a'"), "names is a array, not 'a'"),
        (GROUP + CALL.replace("scope: group\n", ""), "inner.bicep: its target is a resourceGroup"),
        (GROUP + CALL + "output o string = inner.outputs.nothing\n", "there is no nothing"),
        (GROUP + CALL + "output o string = inner.nothing\n", "there is no nothing"),
        ("targetScope = 'subscription'\nresource x 'A.B/c@2025-01-01' = {\n  name: 'x'\n}\n", "needs a resource group"),
    ],
)
def test_what_does_not_fit_together_is_refused(main: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BicepError, match=told):
        deployed(tmp_path, THING, main)


def test_names_that_nothing_uses_are_found(tmp_path: Path) -> None:
    file = tmp_path / "x.bicep"
    file.write_text(
        "param used string\nparam idle string\nvar other = 1\nvar o = { idle: used, other: 2 }\noutput x object = o\n"
    )
    assert idle_names(file) == {"idle", "other"}


def test_parameters_are_told_with_default_and_description(tmp_path: Path) -> None:
    file = tmp_path / "x.bicep"
    file.write_text(
        "@description('It\\'s the first.')\n@allowed([1, 2])\nparam first int = 1\n"
        "// a comment\nparam second string\n@description('Third')\nparam third bool = false\n"
    )
    told = {one.name: (one.type, one.default, one.description) for one in parameters_of(file)}
    assert told == {
        "first": ("int", "1", "It's the first."),
        "second": ("string", None, None),
        "third": ("bool", "false", "Third"),
    }
