"""What a Bicep template would deploy: its resources with every value filled in, read without Azure and its compiler.

The part of the language that ``infra/`` uses is evaluated as the compiler and Azure Resource Manager do it; anything
else is an error, never passed over. Values that only exist while deploying, such as a principal's id, are stand-ins
(:class:`Runtime`), and refused where Azure needs the value before it starts: in names, scopes, conditions and loops.
"""

import ipaddress
import json
import uuid
from base64 import b32encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000000"
DIRECTORY_TENANT = "11111111-1111-1111-1111-111111111111"
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
}


class BicepError(Exception):
    """A template is not what can be deployed; the message names file and line."""


class Runtime(str):
    """A text that is known only while the deployment runs; what it reads as names where it comes from."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as it would be deployed. *body* is all but name, parent, scope and dependsOn."""

    symbol: str
    file: str
    type: str
    api_version: str
    name: str
    id: str
    scope: str | None
    body: Mapping[str, Any]


@dataclass(slots=True)
class Deployment:
    """What one template deploys, its modules included."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of_type(self, type_name: str) -> list[Resource]:
        """The resources of one type."""
        return [resource for resource in self.resources if resource.type.lower() == type_name.lower()]

    def only(self, type_name: str) -> Resource:
        """The one resource of a type."""
        found = self.of_type(type_name)
        if len(found) != 1:
            raise BicepError(f"{len(found)} resources of type {type_name}, not one")
        return found[0]


@dataclass(frozen=True, slots=True)
class Declaration:
    """A parameter of a template. *default* is the value as a text; None: it is required."""

    name: str
    type: str
    default: str | None
    description: str | None


@dataclass(slots=True)
class _Module:
    file: Path
    deployment: Deployment


_ABSENT = object()
"""Stands for a conditional resource or module whose condition is false."""


def deploy(file: Path, parameters: Mapping[str, Any]) -> Deployment:
    """What deploying *file* to a subscription with *parameters* makes.

    Raises:
        BicepError: the template or the parameters can't be deployed.
    """
    return _Evaluation(file, parameters, SUBSCRIPTION).run()


def parameters_of(file: Path) -> list[Declaration]:
    """The parameters that *file* declares."""
    found = []
    for node in _tree(file).children:
        if node.type == "parameter_declaration":
            expression, evaluation = _default(node), _Evaluation(file, {}, SUBSCRIPTION)
            default = None if expression is None else _plain(evaluation.value(expression, {}))
            found.append(Declaration(_name(node), _source(_child(node, "type")), default, _description(file, node)))
    return found


def idle_names(file: Path) -> set[str]:
    """Parameters and variables that nothing in *file* uses."""
    declared, used = set(), set()
    for node in _tree(file).children:
        if node.type in ("parameter_declaration", "variable_declaration"):
            declared.add(_name(node))
        used |= {_source(one) for one in _identifiers(node, skip_first=True)}
    return declared - used


def _identifiers(node: Node, *, skip_first: bool = False) -> Iterator[Node]:
    """The identifiers of expressions: no names of properties, and no name that the node itself declares."""
    children = list(node.children)
    if node.type == "object_property":
        children = children[1:] if children[0].type == "identifier" else children
    for child in children:
        if child.type == "identifier":
            if skip_first:
                skip_first = False
                continue
            yield child
        else:
            yield from _identifiers(child)


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bicep.language()))


def _tree(file: Path) -> Node:
    root = _parser().parse(file.read_bytes()).root_node
    if root.has_error:
        raise BicepError(f"{file.name}:{_first_error(root).start_point[0] + 1}: this is no Bicep")
    return root


def _first_error(node: Node) -> Node:
    if node.is_error or node.is_missing:
        return node
    return next((_first_error(child) for child in node.children if child.has_error), node)


def _source(node: Node) -> str:
    return (node.text or b"").decode()


def _child(node: Node, kind: str) -> Node:
    return next(child for child in node.children if child.type == kind)


def _name(node: Node) -> str:
    return _source(next(child for child in node.children if child.type in ("identifier", "compatible_identifier")))


def _default(node: Node) -> Node | None:
    """What follows the ``=`` of a declaration."""
    kinds = [child.type for child in node.children]
    return node.children[kinds.index("=") + 1] if "=" in kinds else None


def _decorators(node: Node) -> Iterator[Node]:
    """The decorators' calls; the grammar puts them before what they stand above, or inside it."""
    inside = [child for child in node.children if child.type == "decorators"]
    before = node.prev_named_sibling
    while before is not None and before.type in ("comment", "decorators"):
        if before.type == "decorators":
            inside.append(before)
        before = before.prev_named_sibling
    for group in inside:
        for decorator in group.named_children:
            yield decorator.named_children[0]


def _description(file: Path, node: Node) -> str | None:
    for call in _decorators(node):
        if _name(call) == "description":
            text = _Evaluation(file, {}, SUBSCRIPTION).value(_child(call, "arguments").named_children[0], {})
            return str(text)
    return None


class _Evaluation:
    """One file with its parameters, deployed to *scope*: a subscription or a resource group."""

    def __init__(self, file: Path, parameters: Mapping[str, Any], scope: str) -> None:
        self._file = file
        self._given = dict(parameters)
        self._scope = scope
        self._root = _tree(file)
        self._nodes: dict[str, Node] = {}
        self._values: dict[str, Any] = {}
        self._under_way: list[str] = []
        self._deployment = Deployment()
        self._target = "resourceGroup"
        for node in self._root.children:
            if node.type == "target_scope_assignment":
                self._target = self._text(node.named_children[0], {})
            elif node.type == "output_declaration" or not node.type.endswith("_declaration"):
                if node.type not in ("output_declaration", "decorators", "comment", "diagnostic_comment"):
                    raise self._error(node, f"{node.type} is not known here")
            elif _name(node) in self._nodes:
                raise self._error(node, f"{_name(node)} is declared twice")
            else:
                self._nodes[_name(node)] = node

    def run(self) -> Deployment:
        wanted = "subscription" if self._scope == SUBSCRIPTION else "resourceGroup"
        if self._target != wanted:
            raise BicepError(f"{self._file.name}: its target is a {self._target}, and it is deployed to a {wanted}")
        declared = {name for name, node in self._nodes.items() if node.type == "parameter_declaration"}
        if unknown := sorted(set(self._given) - declared):
            raise BicepError(f"{self._file.name} has no parameter {', '.join(unknown)}")
        for name in self._nodes:
            self._symbol(name)
        for node in self._root.children:
            if node.type == "output_declaration":
                self._output(node)
        return self._deployment

    def _output(self, node: Node) -> None:
        expression = _default(node)
        if expression is None:
            raise self._error(node, "an output without a value")
        value = self.value(expression, {})
        if _source(_child(node, "type")) == "string" and not isinstance(value, str):
            raise self._error(node, f"output {_name(node)} is no string but {value!r}")
        self._deployment.outputs[_name(node)] = value

    # --- names ---

    def _symbol(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._under_way:
            raise BicepError(f"{self._file.name}: {' needs '.join([*self._under_way, name])}, which goes in a circle")
        self._under_way.append(name)
        node = self._nodes[name]
        match node.type:
            case "parameter_declaration":
                value = self._parameter(name, node)
            case "variable_declaration":
                value = self.value(self._expression(node), {})
            case "resource_declaration":
                value = self._each(node, self._resource)
            case "module_declaration":
                value = self._each(node, self._module)
            case kind:
                raise self._error(node, f"{kind} is not known here")
        self._under_way.pop()
        self._values[name] = value
        return value

    def _parameter(self, name: str, node: Node) -> Any:
        kind = _source(_child(node, "type"))
        if name in self._given:
            value = self._given[name]
        elif (default := _default(node)) is not None:
            value = self.value(default, {})
        elif kind.endswith("?"):
            value = None
        else:
            raise BicepError(f"{self._file.name}: the parameter {name} is missing")
        if value is None and kind.endswith("?"):
            return value
        python = {"string": str, "int": int, "bool": bool, "object": dict, "array": list}
        wanted = python.get("array" if kind.endswith("[]") else kind.removesuffix("?"))
        if wanted is None:
            raise self._error(node, f"the type {kind} is not known here")
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise BicepError(f"{self._file.name}: the parameter {name} is a {kind}, not {value!r}")
        for call in _decorators(node):
            self._check(
                name, _name(call), [self.value(one, {}) for one in _child(call, "arguments").named_children], value
            )
        return value

    def _check(self, name: str, rule: str, arguments: list[Any], value: Any) -> None:
        holds: dict[str, Callable[[Any], bool]] = {
            "allowed": lambda limit: value in limit,
            "minLength": lambda limit: len(value) >= limit,
            "maxLength": lambda limit: len(value) <= limit,
            "minValue": lambda limit: value >= limit,
            "maxValue": lambda limit: value <= limit,
        }
        if rule in ("description", "secure", "metadata"):
            return
        if rule not in holds:
            raise BicepError(f"{self._file.name}: the decorator @{rule} is not known here")
        if not holds[rule](arguments[0]):
            raise BicepError(f"{self._file.name}: the parameter {name} is {value!r}, against @{rule}({arguments[0]!r})")

    # --- resources and modules ---

    def _each(self, node: Node, one: Callable[[Node, Node, dict[str, Any], bool], Any]) -> Any:
        """What a declaration makes: one thing, none, or a list where it loops."""
        for call in _decorators(node):
            if _name(call) not in ("batchSize", "description"):
                raise self._error(node, f"the decorator @{_name(call)} is not known here")
        body = self._expression(node)
        existing = any(child.type == "existing" for child in node.children)
        if body.type != "for_statement":
            return self._conditional(node, body, {}, existing, one)
        return [
            self._conditional(node, inner, local, existing, one) for inner, local in self._loop(body, {}, known=True)
        ]

    def _conditional(
        self, node: Node, body: Node, local: dict[str, Any], existing: bool, one: Callable[..., Any]
    ) -> Any:
        if body.type == "if_statement":
            condition, body = body.named_children
            if not self._known(self.value(condition, local), condition):
                return _ABSENT
        return one(node, body, local, existing)

    def _resource(self, node: Node, body: Node, local: dict[str, Any], existing: bool) -> Any:
        type_name, _, version = self._text(_child(node, "string"), local).partition("@")
        if not version:
            raise self._error(node, "a resource without an API version")
        properties = self.value(body, local)
        name = self._known(properties.pop("name"), node)
        parent, scope = properties.pop("parent", None), properties.pop("scope", None)
        for other in properties.pop("dependsOn", []):
            if not isinstance(other, (Resource, _Module, list)):
                raise self._error(node, "dependsOn names something that is no resource")
        if isinstance(parent, Resource):
            own, above = type_name.rsplit("/", 1)[1], type_name.rsplit("/", 1)[0]
            if parent.type.lower() != above.lower():
                raise self._error(node, f"a {type_name} can't stand below a {parent.type}")
            identity = f"{parent.id}/{own}/{name}"
        elif isinstance(scope, Resource):
            identity = f"{scope.id}/providers/{type_name}/{name}"
        elif parent is not None or scope is not None:
            raise self._error(node, "its parent or scope is no resource that is deployed")
        elif type_name.lower() == "microsoft.resources/resourcegroups":
            identity = f"{self._scope}/resourceGroups/{name}"
        elif self._target == "subscription":
            raise self._error(node, f"a {type_name} needs a resource group")
        else:
            identity = _resource_id(self._scope, type_name, *name.split("/"))
        resource = Resource(
            _name(node),
            self._file.name,
            type_name,
            version,
            name,
            identity,
            scope.id if isinstance(scope, Resource) else None,
            properties,
        )
        if not existing:
            if any(other.id == identity for other in self._deployment.resources):
                raise self._error(node, f"{identity} is deployed twice")
            self._deployment.resources.append(resource)
        return resource

    def _module(self, node: Node, body: Node, local: dict[str, Any], existing: bool) -> _Module:
        path = self._file.parent / self._text(_child(node, "string"), local)
        if not path.is_file():
            raise self._error(node, f"there is no {path.name}")
        properties = self.value(body, local)
        self._known(properties.get("name"), node)
        scope = properties.get("scope")
        if scope is not None and not isinstance(scope, Resource):
            raise self._error(node, "a module's scope is a resource group of this template")
        # Within the module its parameters are known: it is a deployment of its own, started when they are.
        inner = _Evaluation(path, _settled(properties.get("params", {})), scope.id if scope else self._scope).run()
        self._deployment.resources.extend(inner.resources)
        return _Module(path, inner)

    # --- expressions ---

    def value(self, node: Node, local: Mapping[str, Any]) -> Any:
        """The value of an expression; *local* are the names of the loops and lambdas around it."""
        method = getattr(self, f"_{node.type}", None)
        if method is None:
            raise self._error(node, f"{node.type} is not known here")
        return method(node, local)

    def _identifier(self, node: Node, local: Mapping[str, Any]) -> Any:
        name = _source(node)
        if name in local:
            return local[name]
        if name not in self._nodes:
            raise self._error(node, f"{name} is not declared")
        return self._symbol(name)

    _compatible_identifier = _identifier

    def _number(self, node: Node, _: Mapping[str, Any]) -> int:
        return int(_source(node))

    def _boolean(self, node: Node, _: Mapping[str, Any]) -> bool:
        return _source(node) == "true"

    def _null(self, _: Node, __: Mapping[str, Any]) -> None:
        return None

    def _string(self, node: Node, local: Mapping[str, Any]) -> str:
        parts: list[str] = []
        for child in node.children:
            match child.type:
                case "string_content":
                    parts.append(_source(child))
                case "escape_sequence":
                    parts.append({"\\n": "\n", "\\t": "\t", "\\r": "\r"}.get(_source(child), _source(child)[1:]))
                case "interpolation":
                    value = self.value(child.named_children[0], local)
                    if not isinstance(value, (str, int, bool)):
                        raise self._error(child, f"{_source(child)} is no text")
                    parts.append(value if isinstance(value, str) else _string_of(value))
        text = "".join(parts)
        return Runtime(text) if any(isinstance(part, Runtime) for part in parts) else text

    def _array(self, node: Node, local: Mapping[str, Any]) -> list[Any]:
        return [self.value(child, local) for child in node.named_children if child.type != "comment"]

    def _object(self, node: Node, local: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for child in node.named_children:
            if child.type in ("comment", "diagnostic_comment"):
                continue
            if child.type != "object_property":
                raise self._error(child, f"{child.type} is not known in an object")
            key, value = [one for one in child.children if one.type not in (":", "comment")]
            name = self._text(key, local) if key.type == "string" else _source(key)
            if name in made:
                raise self._error(child, f"{name} stands there twice")
            made[name] = self.value(value, local)
        return made

    def _parenthesized_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        return self.value(node.named_children[0], local)

    def _ternary_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        condition, yes, no = node.named_children
        return self.value(yes if self._known(self.value(condition, local), condition) else no, local)

    def _unary_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        value = self._known(self.value(node.named_children[0], local), node)
        return not value if node.children[0].type == "!" else -value

    def _binary_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        left, right = node.named_children
        operator = _source(node)[left.end_byte - node.start_byte : right.start_byte - node.start_byte].strip()
        first = self.value(left, local)
        match operator:
            case "&&":
                return self._known(first, left) and self._known(self.value(right, local), right)
            case "||":
                return self._known(first, left) or self._known(self.value(right, local), right)
            case "??":
                return self.value(right, local) if first is None else first
        if operator not in _OPERATORS:
            raise self._error(node, f"the operator {operator} is not known here")
        return _OPERATORS[operator](self._known(first, left), self._known(self.value(right, local), right))

    def _member_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        target, key = self.value(node.named_children[0], local), _source(node.named_children[-1])
        return self._member(target, key, node, safe=any(child.type == ".?" for child in node.children))

    def _subscript_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        target, key = (self.value(child, local) for child in node.named_children)
        if isinstance(target, list) and isinstance(key, int):
            if not 0 <= key < len(target):
                raise self._error(node, f"{_source(node)}: there are {len(target)} of them")
            return target[key]
        return self._member(target, str(key), node, safe=False)

    def _member(self, target: Any, key: str, node: Node, *, safe: bool) -> Any:
        match target:
            case Resource():
                known = {"id": target.id, "name": target.name, "type": target.type, "apiVersion": target.api_version}
                return known.get(key, Runtime(f"[{target.symbol}.{key}]"))
            case _Module() if key == "outputs":
                return {name: _at_runtime(value) for name, value in target.deployment.outputs.items()}
            case Runtime():
                return Runtime(f"{target[:-1]}.{key}]")
            case dict() if key in target:
                return target[key]
        if safe and (target is _ABSENT or isinstance(target, dict)):
            return None
        if target is _ABSENT:
            raise self._error(node, f"{_source(node)}: it is not deployed with these parameters")
        parts = ", ".join(map(str, target)) if isinstance(target, dict) else "no parts"
        raise self._error(node, f"{_source(node)}: there is no {key}, but {parts}")

    def _for_statement(self, node: Node, local: Mapping[str, Any]) -> list[Any]:
        return [self.value(body, inner) for body, inner in self._loop(node, local, known=False)]

    def _loop(self, node: Node, local: Mapping[str, Any], *, known: bool) -> Iterator[tuple[Node, dict[str, Any]]]:
        head, collection, body = [child for child in node.named_children if child.type != "comment"]
        names = [_source(head)] if head.type != "for_loop_parameters" else [_source(one) for one in head.named_children]
        over = self.value(collection, local)
        if not isinstance(over, list) or (known and any(isinstance(item, Runtime) for item in over)):
            raise self._error(collection, f"{_source(collection)} can't be looped over when the deployment starts")
        for index, item in enumerate(over):
            yield body, {**local, **dict(zip(names, (item, index), strict=False))}

    def _call_expression(self, node: Node, local: Mapping[str, Any]) -> Any:
        callee, arguments = node.named_children
        name = _source(callee).removeprefix("az.").removeprefix("sys.")
        values = [
            self._lambda(child, local) if child.type == "lambda_expression" else self.value(child, local)
            for child in arguments.named_children
            if child.type != "comment"
        ]
        function = getattr(_Functions(self._file, self._scope), name[:1].lower() + name[1:], None)
        if function is None or name.startswith("_"):
            raise self._error(node, f"the function {name} is not known here")
        if name == "empty" and isinstance(values[0], Runtime):
            raise self._error(node, "whether it is empty is known only while deploying")
        try:
            result = function(*values)
        except (TypeError, ValueError, KeyError, OSError) as error:
            raise self._error(node, f"{_source(node)}: {error}") from error
        late = any(isinstance(value, Runtime) for value in values)
        return Runtime(result) if late and isinstance(result, str) else result

    def _lambda(self, node: Node, local: Mapping[str, Any]) -> Callable[..., Any]:
        head, body = node.named_children
        names = [_source(head)] if head.type == "identifier" else [_source(one) for one in head.named_children]
        return lambda *values: self.value(body, {**local, **dict(zip(names, values, strict=False))})

    # --- small parts ---

    def _expression(self, node: Node) -> Node:
        found = _default(node)
        if found is None:
            raise self._error(node, f"{_name(node)} has no value")
        return found

    def _text(self, node: Node, local: Mapping[str, Any]) -> str:
        value = self.value(node, local)
        if not isinstance(value, str):
            raise self._error(node, f"{_source(node)} is no text")
        return value

    def _known(self, value: Any, node: Node) -> Any:
        if isinstance(value, Runtime):
            raise self._error(node, f"{value} is needed before the deployment starts, and known only while it runs")
        return value

    def _error(self, node: Node, text: str) -> BicepError:
        return BicepError(f"{self._file.name}:{node.start_point[0] + 1}: {text}")


class _Functions:
    """The language's functions, by the names they have there."""

    def __init__(self, file: Path, scope: str) -> None:
        self._folder = file.parent
        self._scope = scope

    def any(self, value: Any) -> Any:
        return value

    def concat(self, *values: Any) -> Any:
        return "".join(values) if isinstance(values[0], str) else [item for value in values for item in value]

    def contains(self, whole: Any, part: Any) -> bool:
        return part in whole

    def empty(self, value: Any) -> bool:
        return not value

    def length(self, value: Any) -> int:
        return len(value)

    def string(self, value: Any) -> str:
        return value if isinstance(value, str) else _string_of(value)

    def json(self, text: str) -> Any:
        return json.loads(text)

    def toLower(self, text: str) -> str:
        return text.lower()

    def replace(self, text: str, old: str, new: str) -> str:
        return text.replace(old, new)

    def join(self, values: list[str], between: str) -> str:
        return between.join(values)

    def format(self, text: str, *values: Any) -> str:
        return text.format(*values)

    def union(self, *values: Any) -> Any:
        if isinstance(values[0], dict):
            return {key: item for value in values for key, item in value.items()}
        return list({json.dumps(item, sort_keys=True): item for value in values for item in value}.values())

    def items(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"key": key, "value": value[key]} for key in sorted(value)]

    def map(self, values: list[Any], each: Callable[..., Any]) -> list[Any]:
        return [each(value, index) for index, value in enumerate(values)]

    def filter(self, values: list[Any], keep: Callable[..., Any]) -> list[Any]:
        return [value for index, value in enumerate(values) if keep(value, index)]

    def flatten(self, values: list[list[Any]]) -> list[Any]:
        return [item for value in values for item in value]

    def range(self, start: int, count: int) -> list[int]:
        return list(range(start, start + count))

    def loadJsonContent(self, name: str) -> Any:
        return json.loads(self.loadTextContent(name))

    def loadTextContent(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8")

    def uniqueString(self, *values: str) -> str:
        return b32encode(sha256("|".join(values).encode()).digest()).decode().lower()[:13]

    def guid(self, *values: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, "|".join(values)))

    def cidrSubnet(self, network: str, prefix: int, index: int) -> str:
        return str(list(ipaddress.ip_network(network).subnets(new_prefix=prefix))[index])

    def subscription(self) -> dict[str, Any]:
        return {"id": SUBSCRIPTION, "subscriptionId": SUBSCRIPTION.rsplit("/", 1)[1], "tenantId": DIRECTORY_TENANT}

    def resourceGroup(self) -> dict[str, Any]:
        return {"id": self._scope, "name": self._scope.rsplit("/", 1)[1]}

    def tenant(self) -> dict[str, Any]:
        return {"tenantId": DIRECTORY_TENANT}

    def environment(self) -> dict[str, Any]:
        return {"suffixes": {"storage": "core.windows.net"}}

    def resourceId(self, type_name: str, *names: str) -> str:
        return _resource_id(self._scope, type_name, *names)

    def subscriptionResourceId(self, type_name: str, *names: str) -> str:
        return _resource_id(SUBSCRIPTION, type_name, *names)


def _resource_id(scope: str, type_name: str, *names: str) -> str:
    provider, *parts = type_name.split("/")
    if len(parts) != len(names):
        raise ValueError(f"{type_name} needs {len(parts)} names, not {len(names)}")
    return f"{scope}/providers/{provider}/" + "/".join(
        f"{part}/{name}" for part, name in zip(parts, names, strict=True)
    )


def _string_of(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    return str(value) if isinstance(value, int) else json.dumps(value)


def _plain(value: Any) -> str:
    """*value* as a parameters file and a page write it."""
    return value if isinstance(value, str) else json.dumps(value)


def _settled(value: Any) -> Any:
    """*value* as the module it is given to sees it."""
    match value:
        case dict():
            return {key: _settled(item) for key, item in value.items()}
        case list():
            return [_settled(item) for item in value]
        case Runtime():
            return str(value)
    return value


def _at_runtime(value: Any) -> Any:
    return Runtime(value) if isinstance(value, str) else value
