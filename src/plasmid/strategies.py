"""Where a task may run: scheduling strategies and label selectors, as Ray programs write them.

On one machine they answer one question: this one, or none? `matches` and `fits_selector` do.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    from plasmid.groups import PlacementGroup

    Operator: TypeAlias = "In | NotIn | Exists | DoesNotExist"

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
]

NODE_ID_BYTES = 28


class PlacementGroupSchedulingStrategy:
    """Run in a bundle of a placement group; of index -1: in any.

    placement_group_capture_child_tasks  whether tasks that the task submits run in the group, too,
                                         unless they have a strategy of their own
    """

    def __init__(
        self,
        placement_group: PlacementGroup | None,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeAffinitySchedulingStrategy:
    """Run on the node of this id (`nodes()[0]["NodeID"]`); `soft`: or elsewhere, if there is none.

    ValueError if `node_id` is no hex id.
    """

    def __init__(
        self,
        node_id: Any,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        self.node_id: str = node_id if isinstance(node_id, str) else node_id.hex()
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable
        if not _is_node_id(self.node_id):
            raise ValueError(
                f"Invalid node_id {self.node_id!r}: it must be {2 * NODE_ID_BYTES} hex digits; "
                "nodes() lists the ids"
            )
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable needs soft=True")
        if _fail_on_unavailable and soft:
            raise ValueError("_fail_on_unavailable needs soft=False")


class In:
    """The label has one of these values."""

    def __init__(self, *values: str) -> None:
        self.values = _strings("In", values)


class NotIn:
    """The label has none of these values, or is not there."""

    def __init__(self, *values: str) -> None:
        self.values = _strings("NotIn", values)


class Exists:
    """There is such a label."""


class DoesNotExist:
    """There is no such label."""


class _LabelMatchExpression:
    def __init__(self, key: str, operator: Operator) -> None:
        self.key = key
        self.operator = operator


class NodeLabelSchedulingStrategy:
    """Run on a node whose labels are so: `NodeLabelSchedulingStrategy({"region": In("us")})`.

    `soft` is a wish, which one machine fulfils or not. ValueError for anything but a dict of
    operators.
    """

    def __init__(
        self, hard: dict[str, Operator] | None, *, soft: dict[str, Operator] | None = None
    ) -> None:
        self.hard = _expressions(hard, "hard")
        self.soft = _expressions(soft, "soft")
        if not (self.hard or self.soft):
            raise ValueError("NodeLabelSchedulingStrategy: hard and soft cannot both be empty")


def matches(strategy: NodeLabelSchedulingStrategy, labels: dict[str, str]) -> bool:
    """Whether a node with these labels will do."""
    return all(_holds(each.operator, labels.get(each.key)) for each in strategy.hard)


def check_selector(selector: dict[Any, Any]) -> str:
    """What is wrong with a label selector: {"key": "value", "!value", "in(a, b)" or "!in(a, b)"};
    "" if nothing is."""
    for key, value in selector.items():
        if not isinstance(key, str) or not _is_label_key(key):
            return f"Invalid label key {key!r}"
        if value is not None and (not isinstance(value, str) or _alternatives(value) is None):
            return f"Invalid label selector value {value!r} of {key!r}"
    return ""


def fits_selector(selector: Mapping[str, str | None], labels: dict[str, str]) -> bool:
    """Whether a node with these labels is one of those selected."""
    for key, text in selector.items():
        values = _alternatives(text or "")
        if values and (labels.get(key, "") in values) == (text or "").startswith("!"):
            return False
    return True


def _is_node_id(text: str) -> bool:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return False
    return len(raw) == NODE_ID_BYTES and raw != b"\xff" * NODE_ID_BYTES


def _strings(operator: str, values: tuple[Any, ...]) -> list[str]:
    if not values:
        raise ValueError(f'{operator} needs values, as in {operator}("value1", "value2")')
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{operator} takes strings, not {value!r} ({type(value).__name__})")
    return list(values)


def _expressions(given: Any, which: str) -> list[_LabelMatchExpression]:
    if given is None:
        return []
    if not isinstance(given, dict):
        raise ValueError(f"{which} must be a dict of operators, not {type(given).__name__}")
    for key, operator in given.items():
        if not isinstance(key, str):
            raise ValueError(f"{which}: a label's key must be a string, not {key!r}")
        if not isinstance(operator, (In, NotIn, Exists, DoesNotExist)):
            raise ValueError(
                f"{which}: {key!r} must have one of In, NotIn, Exists and DoesNotExist, not "
                f"{operator!r}"
            )
    return [_LabelMatchExpression(key, operator) for key, operator in given.items()]


def _holds(operator: Operator, value: str | None) -> bool:
    if isinstance(operator, In):
        return value in operator.values
    if isinstance(operator, NotIn):
        return value not in operator.values
    return (value is not None) == isinstance(operator, Exists)


def _is_label(text: str) -> bool:
    """At most 63 letters, digits and -_. with a letter or digit at both ends."""
    inner = text.replace("-", "a").replace("_", "a").replace(".", "a")
    return (
        0 < len(text) <= 63
        and text.isascii()
        and inner.isalnum()
        and text[0].isalnum()
        and text[-1].isalnum()
    )


def _is_label_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    dns = all(_is_label(part) for part in prefix.split(".")) and len(prefix) <= 253
    return _is_label(name) and (not slash or dns)


def _alternatives(text: str) -> list[str] | None:
    """The values that a selector names, without its operator; None if it is none."""
    if text == "":
        return []
    body = text.removeprefix("!")
    if body.startswith("in(") and body.endswith(")"):
        values = [value.strip() for value in body[3:-1].split(",")]
    else:
        values = [body]
    return values if all(map(_is_label, values)) else None
