"""Requests made from the service model: each operation with each member missing, of each wrong type, and beyond each bound.

    python service_model.py URL [SERVICE]

For every operation, the smallest request that the model allows has to pass the checks of types and bounds. Then one thing at a time
is made wrong, and the kind and the text of the error have to be those of the service: SerializationException with the text for the
types, or ValidationException with the member's name and the constraint.
"""

import base64
import copy
import random
import re
import sys

from common import ACCOUNT, REGION, Raw, finish, service_model

SERVICE = sys.argv[2] if len(sys.argv) > 2 else "kinesis"
MODEL = service_model(SERVICE)
raw = Raw(sys.argv[1], MODEL.metadata["targetPrefix"])
ARN = f"arn:aws:kinesis:{REGION}:{ACCOUNT}"
# A text for each pattern of the model. A missing pattern is an error: the model has changed.
EXAMPLES = {
    r"[a-zA-Z0-9_.-]+": "shardId-000000000000",
    r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+": f"{ARN}:stream/model",
    r"^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+": f"{ARN}:stream/model/consumer/c:1",
    r"arn:aws.*:kinesis:.*:\d{12}:.*(stream|channel|queue)/\S+": f"{ARN}:stream/model",
    r"arn:aws.*:kinesis:.*:\d{12}:queue/\S+": f"{ARN}:queue/q",
    r"arn:aws.*:kinesis:.*:\d{12}:channel/\S+": f"{ARN}:channel/c",
    r"^(0|([1-9]\d{0,38}))$": "99",
    r"^(0|([1-9]\d{0,128}))$": "99",
    r"[a-z0-9]{20}-[a-z0-9]{3}": "abcdefghij0123456789-abc",
    r"arn:aws[-a-z0-9]*:s3:::[a-z0-9._-]{3,63}": "arn:aws:s3:::bucket",
    r"[\.\-_/#A-Za-z0-9]+": "group",
    r"[^:*]*": "stream",
    r"\d{12}": ACCOUNT,
    r"arn:aws[-a-z0-9]*:glue:[-a-z0-9]+:\d{12}:schema/[-a-zA-Z0-9_$#.]+/[-a-zA-Z0-9_$#.]+": f"arn:aws:glue:{REGION}:{ACCOUNT}:schema/a/b",
    r"[a-zA-Z0-9\.\_]+": "source",
    r"arn:aws[-a-z0-9]*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@\-_/]+": f"arn:aws:iam::{ACCOUNT}:role/r",
    r"[0-9A-Za-z!\-_'.*()\/]+": "errors/",
    r"[0-9A-Za-z!\-_'.*()\/=:{}]+": "data/",
    r"[0-9a-z_]+": "name",
    r"arn:aws[-a-z0-9]*:s3tables:[-a-z0-9]+:\d{12}:bucket/[a-z0-9_-]{3,63}": f"arn:aws:s3tables:{REGION}:{ACCOUNT}:bucket/tables",
    # The patterns of Firehose.
    r".*": "x",
    r"[0-9]+": "1",
    r"^\S+$": "word",
    r"^(?!\s*$).+": "a text",
    r"[a-zA-Z0-9-]+": "destinationId-000000000001",
    r"[\.\-_/#A-Za-z0-9]*": "group",
    r"^$|\.[0-9a-z!\-_.*'()]+": ".json",
    r"^$|[a-zA-Z/_]+": "Europe/Paris",
    r"https://.*": "https://a.example.com/",
    r"https:.*": "https://a.example.com/",
    r"arn:.*:s3:::[\w\.\-]{1,255}": "arn:aws:s3:::bucket",
    r"arn:.*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@\-_/]+": f"arn:aws:iam::{ACCOUNT}:role/r",
    r"arn:.*:kinesis:[a-zA-Z0-9\-]+:\d{12}:stream/[a-zA-Z0-9_.-]+": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/model",
    r"arn:.*:kms:[a-zA-Z0-9\-]+:\d{12}:key/[a-zA-Z_0-9+=,.@\-_/]+": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
    r"arn:.*:kms:[a-zA-Z0-9\-]+:\d{12}:(key|alias)/[a-zA-Z_0-9+=,.@\-_/]+": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/k",
    r"arn:.*:es:[a-zA-Z0-9\-]+:\d{12}:domain/[a-z][-0-9a-z]{2,27}": f"arn:aws:es:{REGION}:{ACCOUNT}:domain/clicks",
    r"arn:.*:secretsmanager:[a-zA-Z0-9\-]+:\d{12}:secret:[a-zA-Z0-9\-/_+=.@!]+": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:s",
    r"^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$": "team",
    r"^[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$": "web",
}
# Values that the server refuses as a whole, whatever they contain.
ABSENT = re.compile(r"Redshift|Elasticsearch|ServerlessDest|Snowflake|Iceberg|MSKSource|DatabaseSource|VpcConf|HiveJson|Orc")


def matches(pattern, text):
    """Returns whether a pattern matches a whole text. Python has no classes of characters such as letters."""
    return re.fullmatch(pattern.replace(r"\p{L}\p{Z}\p{N}", r"a-zA-Z0-9ü "), text)


def smallest(shape):
    """Returns a value that is just allowed, without anything that is not required."""
    kind, bounds = shape.type_name, shape.metadata
    if kind == "structure" and SERVICE == "firehose" and ABSENT.search(shape.name):
        return {}
    if kind == "structure":
        return {name: smallest(shape.members[name]) for name in shape.required_members}
    if kind == "list":
        return [smallest(shape.member)] * bounds.get("min", 0)
    if kind == "map":
        return {"key": "value"}
    if kind == "string":
        if shape.enum:
            return shape.enum[0]
        pattern = bounds.get("pattern")
        return EXAMPLES[pattern] if pattern else "x" * max(1, bounds.get("min", 1))
    if kind == "integer":
        return bounds.get("min", 24)
    return {"boolean": False, "blob": "", "timestamp": 1_600_000_000}[kind]


LIST_FOUND = "Start of list found where not expected"
MAP_FOUND = "Start of structure or map found where not expected."
CLASSES = {str: "java.lang.String", bool: "java.lang.Boolean", int: "com.amazon.coral.value.json.numbers.TruncatingBigNumber"}
WANTED = {"string": "an String", "integer": "an Integer", "blob": "a Blob", "timestamp": "milliseconds since epoch", "boolean": "an Boolean"}


def wrong_types(shape):
    """Yields values of all wrong types of JSON, each with the text of the error."""
    kind = shape.type_name
    for value in ("x", 5, True, ["x"], {"x": "y"}):
        fits = {"string": str, "blob": str, "integer": int, "timestamp": int, "boolean": bool, "list": list}
        if type(value) is fits.get(kind, dict):
            continue
        if kind == "list":
            text = MAP_FOUND if isinstance(value, dict) else "Expected list or null"
        elif isinstance(value, list):
            text = LIST_FOUND
        elif kind == "map":
            text = "Expected map or null"
        elif kind == "structure":
            text = "Expected null"
        elif isinstance(value, dict):
            text = MAP_FOUND
        elif kind == "boolean" and isinstance(value, str):
            text = "'X' can not be converted to an Boolean"
        else:
            text = f"class {CLASSES[type(value)]} can not be converted to {WANTED[kind]}"
        yield value, text


def out_of_bounds(shape):
    """Yields values beyond each bound, each with the constraint that the error has to name."""
    kind, bounds = shape.type_name, shape.metadata
    minimum, maximum = bounds.get("min"), bounds.get("max")
    if kind == "integer":
        if minimum is not None:
            yield "below", minimum - 1, f"Member must have value greater than or equal to {minimum}"
        if maximum is not None:
            yield "above", maximum + 1, f"Member must have value less than or equal to {maximum}"
    elif kind == "string":
        if minimum:
            yield "below", "x" * (minimum - 1), f"Member must have length greater than or equal to {minimum}"
        if maximum is not None:
            yield "above", "x" * (maximum + 1), f"Member must have length less than or equal to {maximum}"
        if shape.enum:
            yield "enum", "NOT_ONE_OF_THEM", "Member must satisfy enum value set: ["
        pattern = bounds.get("pattern")
        if pattern:
            for bad in ("not so: *", " ", "ü", "x" * max(1, minimum or 1)):
                if not matches(pattern, bad):
                    text = pattern[1:-1].removeprefix("(").removesuffix(")") if pattern.startswith("^(0") else pattern
                    yield "pattern", bad, f"Member must satisfy regular expression pattern: {text}"
                    break
    elif kind == "blob":
        text = f"Member must have length less than or equal to {maximum}"
        yield "above", base64.b64encode(bytes(maximum + 1)).decode(), text
    elif kind == "list":
        if minimum:
            yield "below", [], f"Member must have length greater than or equal to {minimum}"
        if maximum is not None:
            yield "above", [smallest(shape.member)] * (maximum + 1), f"Member must have length less than or equal to {maximum}"
        member = shape.member.metadata
        if shape.member.type_name == "string" and "max" in member:
            text = f"Member must satisfy constraint: [Member must have length less than or equal to {member['max']}, Member must have length greater than or equal to {member['min']}]"
            yield "each", [""], text
            yield "each", ["x" * (member["max"] + 1)], text
    elif kind == "map":
        if minimum:
            yield "below", {}, f"Member must have length greater than or equal to {minimum}"
        if maximum is not None:
            many = {str(number): "x" for number in range(maximum + 1)}
            yield "above", many, f"Member must have length less than or equal to {maximum}"
        of = lambda who, shape: (
            f"{who} must satisfy constraint: [Member must have length less than or equal to {shape.metadata['max']}, "
            f"Member must have length greater than or equal to {shape.metadata['min']}]"
        )
        yield "each", {"x" * (shape.key.metadata["max"] + 1): "x"}, of("Map keys", shape.key)
        yield "each", {"x": "x" * (shape.value.metadata["max"] + 1)}, of("Map value", shape.value)


def around(shape):
    """Yields texts that are nearly what a pattern wants, and some that are: its example with a few characters changed."""
    pattern, maximum = shape.metadata.get("pattern"), shape.metadata.get("max", 1_000)
    if shape.type_name != "string" or pattern is None:
        return
    for _ in range(20):
        text = list(EXAMPLES[pattern])
        for _ in range(dice.choice((1, 1, 2, 5))):
            at = dice.randrange(len(text) + 1)
            text[at : at + dice.randrange(2)] = dice.choice(("", *"aZ059 _-./:*#$+=,@\n"))
        # Also without TLS, if the operator allows it.
        is_plain_web = pattern.startswith("https:") and "".join(text).startswith("http:")
        if shape.metadata.get("min", 0) <= len(text) <= maximum and not is_plain_web:
            yield "".join(text)


def lower(name):
    return name[:1].lower() + name[1:]


def places(shape, request, path, text_path):
    """Yields each place in a request that the model knows: its shape, a request that has it, and how to put a value there.

    What is below a member that is not required is reached by adding the smallest value of the member.
    """
    for name, member in shape.members.items():
        here, text_here = f"{path}{name}", f"{text_path}{lower(name)}"
        is_required = name in shape.required_members

        def put(value, name=name):
            changed = copy.deepcopy(request)
            if value is MISSING:
                changed.pop(name, None)
            else:
                changed[name] = value
            return changed

        yield here, text_here, member, is_required, put
        if ABSENT.search(name) and SERVICE == "firehose":
            continue
        if member.type_name == "structure":
            inner = smallest(member)
            for place, text_place, below, needed, put_below in places(member, inner, here + ".", text_here + "."):
                yield place, text_place, below, needed, lambda value, put=put, put_below=put_below: put(put_below(value))
        elif member.type_name == "list" and member.member.type_name == "structure":
            inner = smallest(member.member)
            for place, text_place, below, needed, put_below in places(
                member.member, inner, here + ".", text_here + ".1.member."
            ):
                yield place, text_place, below, needed, lambda value, put=put, put_below=put_below: put([put_below(value)])


MISSING = object()
# Each run sends the same requests.
dice = random.Random(20131202)
failures, count = [], 0


def expect(operation, place, what, body, kind, *texts):
    """Sends a request that has to fail in the checks of types and bounds."""
    global count
    count += 1
    status, answer = raw.call(operation, body)
    text = (answer or {}).get("Message" if kind == "SerializationException" else "message", "")
    is_right = status == 400 and answer.get("__type") == kind and all(part in text for part in texts)
    if not is_right:
        got = f"{status} {str(answer)[:200]}"
        failures.append(f"{operation}.{place} {what}: {got} should be {kind} with {texts}")


def accept(operation, what, body):
    """Sends a request that has to pass the checks of types and bounds, whatever comes after them."""
    global count
    count += 1
    # Does not wait for the end of event streams.
    body = {**body, "DryRun": True} if operation == "SubscribeToShard" and "DryRun" not in body else body
    _, answer = raw.call(operation, body)
    kind, text = (answer or {}).get("__type"), (answer or {}).get("message") or ""
    if kind == "SerializationException" or (kind == "ValidationException" and "validation error" in text):
        failures.append(f"{operation} refuses {what}: {answer}")


def judge(operation):
    shape = MODEL.operation_model(operation).input_shape
    request = smallest(shape)
    if "StreamName" in shape.members and operation != "CreateStream":
        request["StreamName"] = "model-that-is-not-there"
    accept(operation, "its smallest request", request)
    for place, text_place, member, is_required, put in places(shape, request, "", ""):
        if is_required:
            constraint = f"Value null at '{text_place}' failed to satisfy constraint: Member must not be null"
            expect(operation, place, "missing", put(MISSING), "ValidationException", constraint)
            expect(operation, place, "missing", put(None), "ValidationException", constraint)
        else:
            accept(operation, f"{place}, as small as the model allows", put(smallest(member)))
            accept(operation, f"null as {place}", put(None))
        for value, text in wrong_types(member):
            expect(operation, place, "type", put(value), "SerializationException", text)
        for text in around(member):
            body, constraint = put(text), "satisfy regular expression pattern"
            if matches(member.metadata["pattern"], text):
                accept(operation, f"{place}, which matches", body)
            else:
                expect(operation, place, f"{text!r}", body, "ValidationException", f"at '{text_place}'", constraint)
        for what, value, constraint in out_of_bounds(member):
            expect(
                operation, place, what, put(value), "ValidationException",
                f"at '{text_place}' failed to satisfy constraint: {constraint}",
            )


for operation in MODEL.operation_names:
    judge(operation)
assert not failures, f"{len(failures)} of {count} differ:\n" + "\n".join(failures)
finish(operations=len(MODEL.operation_names), requests=count)
