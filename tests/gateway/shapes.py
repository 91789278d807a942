"""Holds what was sent and answered against the service model: types, required members, members that nobody knows."""

import base64


def members_of(shape, path):
    """Yields the paths of all members below a shape. No shape of the service contains itself."""
    if shape is None:
        return
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield f"{path}.{name}"
            yield from members_of(member, f"{path}.{name}")
    elif shape.type_name == "list":
        yield from members_of(shape.member, path + "[]")


def members_in(value, shape, path):
    """Yields the paths of those members that a value has."""
    if shape.type_name == "structure":
        for name, member in value.items():
            yield f"{path}.{name}"
            yield from members_in(member, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for item in value:
            yield from members_in(item, shape.member, path + "[]")


def check(value, shape, path):
    """Checks a value of JSON as a server has sent it."""
    kind = shape.type_name
    if kind == "structure":
        assert isinstance(value, dict), f"{path} is {value!r}"
        unknown = set(value) - set(shape.members)
        assert not unknown, f"{path} has {unknown}, which the model does not know"
        missing = set(shape.required_members) - set(value)
        assert not missing, f"{path} lacks {missing}"
        for name, member in value.items():
            check(member, shape.members[name], f"{path}.{name}")
    elif kind == "list":
        assert isinstance(value, list), f"{path} is {value!r}"
        bounds(len(value), shape, path)
        for item in value:
            check(item, shape.member, path + "[]")
    elif kind == "string":
        assert isinstance(value, str), f"{path} is {value!r}"
        bounds(len(value), shape, path)
        assert not shape.enum or value in shape.enum, f"{path} is {value!r}, which is none of {shape.enum}"
    elif kind in ("integer", "long"):
        assert isinstance(value, int) and not isinstance(value, bool), f"{path} is {value!r}"
        bounds(value, shape, path)
    elif kind == "boolean":
        assert isinstance(value, bool), f"{path} is {value!r}"
    elif kind == "timestamp":
        assert isinstance(value, (int, float)) and value > 1.6e9, f"{path} is {value!r}"
    elif kind == "blob":
        assert isinstance(value, str), f"{path} is {value!r}"
        base64.b64decode(value, validate=True)
    else:
        raise AssertionError(f"{path} is of type {kind}")


def bounds(number, shape, path):
    """Checks a number, or a length."""
    minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
    # The server returns empty lists and counts of 0 where the model says 1; see `BELOW` for those.
    assert minimum is None or number >= minimum or path in BELOW, f"{path} is {number}, below {minimum}"
    assert maximum is None or number <= maximum, f"{path} is {number}, above {maximum}"


# Where the service itself returns less than its model says.
BELOW = {
    # No record failed.
    "PutRecords.FailedRecordCount",
    # No metric is enabled.
    *(
        f"{operation}EnhancedMonitoring.{which}ShardLevelMetrics"
        for operation in ("Enable", "Disable")
        for which in ("Current", "Desired")
    ),
    "DescribeStream.StreamDescription.EnhancedMonitoring[].ShardLevelMetrics",
    "DescribeStreamSummary.StreamDescriptionSummary.EnhancedMonitoring[].ShardLevelMetrics",
}
