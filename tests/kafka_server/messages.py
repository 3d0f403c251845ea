"""The requests and answers that this broker knows: one table, as https://kafka.apache.org/protocol prints them.

A line is a field: name, type, versions (all, where none is said). ``?`` before a type lets it be null, and braces
are a structure. Partitions are
called `topics`, `partitions`, `name` and `index` in requests and answers alike, so that an answer to each of them can
be made from the request.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from kafka_server import wire


@dataclass
class Field:
    """A field of a message."""

    name: str
    kind: str
    first: int
    last: int
    fields: list[Field] = field(default_factory=list)


@dataclass(frozen=True)
class Api:
    """A request: its key, the versions served here, and the first version that is flexible."""

    name: str
    key: int
    first: int
    last: int
    flexible: int
    request: list[Field]
    answer: list[Field]


_TABLE = """
Produce 0 3-8 9
 transactional_id ?str
 acks i16
 timeout_ms i32
 topics [ name str; partitions [ index i32; records ?bytes ] ]
=
 topics [ name str; partitions [ index i32; error_code i16; base_offset i64; log_append_time_ms i64; log_start_offset i64 5+; record_errors [ batch_index i32; message ?str ] 8+; error_message ?str 8+ ] ]
 throttle_time_ms i32

Fetch 1 4-11 12
 replica_id i32
 max_wait_ms i32
 min_bytes i32
 max_bytes i32
 isolation_level i8
 session_id i32 7+
 session_epoch i32 7+
 topics [ name str; partitions [ index i32; current_leader_epoch i32 9+; fetch_offset i64; log_start_offset i64 5+; partition_max_bytes i32 ] ]
 forgotten [ name str; partitions [i32] ] 7+
 rack_id str 11+
=
 throttle_time_ms i32
 error_code i16 7+
 session_id i32 7+
 topics [ name str; partitions [ index i32; error_code i16; high_watermark i64; last_stable_offset i64; log_start_offset i64 5+; aborted_transactions ?[ producer_id i64; first_offset i64 ]; preferred_read_replica i32 11+; records ?bytes ] ]

ListOffsets 2 1-5 6
 replica_id i32
 isolation_level i8 2+
 topics [ name str; partitions [ index i32; current_leader_epoch i32 4+; timestamp i64 ] ]
=
 throttle_time_ms i32 2+
 topics [ name str; partitions [ index i32; error_code i16; timestamp i64; offset i64; leader_epoch i32 4+ ] ]

Metadata 3 1-12 9
 topics ?[ topic_id uuid 10+; name ?str ]
 allow_auto_topic_creation bool 4+
 include_cluster_authorized_operations bool 8-10
 include_topic_authorized_operations bool 8+
=
 throttle_time_ms i32 3+
 brokers [ node_id i32; host str; port i32; rack ?str ]
 cluster_id ?str 2+
 controller_id i32
 topics [ error_code i16; name ?str; topic_id uuid 10+; is_internal bool; partitions [ error_code i16; index i32; leader_id i32; leader_epoch i32 7+; replica_nodes [i32]; isr_nodes [i32]; offline_replicas [i32] 5+ ]; topic_authorized_operations i32 8+ ]
 cluster_authorized_operations i32 8-10

OffsetCommit 8 2-9 8
 group_id str
 generation_id i32
 member_id str
 group_instance_id ?str 7+
 retention_time_ms i64 2-4
 topics [ name str; partitions [ index i32; committed_offset i64; committed_leader_epoch i32 6+; committed_metadata ?str ] ]
=
 throttle_time_ms i32 3+
 topics [ name str; partitions [ index i32; error_code i16 ] ]

OffsetFetch 9 1-9 6
 group_id str 0-7
 topics ?[ name str; partitions [i32] ] 0-7
 groups [ group_id str; member_id ?str 9+; member_epoch i32 9+; topics ?[ name str; partitions [i32] ] ] 8+
 require_stable bool 7+
=
 throttle_time_ms i32 3+
 topics [ name str; partitions [ index i32; committed_offset i64; committed_leader_epoch i32 5+; metadata ?str; error_code i16 ] ] 0-7
 error_code i16 2-7
 groups [ group_id str; topics [ name str; partitions [ index i32; committed_offset i64; committed_leader_epoch i32; metadata ?str; error_code i16 ] ]; error_code i16 ] 8+

FindCoordinator 10 0-2 3
 key str
 key_type i8 1+
=
 throttle_time_ms i32 1+
 error_code i16
 error_message ?str 1+
 node_id i32
 host str
 port i32

JoinGroup 11 0-5 6
 group_id str
 session_timeout_ms i32
 rebalance_timeout_ms i32 1+
 member_id str
 group_instance_id ?str 5+
 protocol_type str
 protocols [ name str; metadata bytes ]
=
 throttle_time_ms i32 2+
 error_code i16
 generation_id i32
 protocol_name str
 leader str
 member_id str
 members [ member_id str; group_instance_id ?str 5+; metadata bytes ]

Heartbeat 12 0-3 4
 group_id str
 generation_id i32
 member_id str
 group_instance_id ?str 3+
=
 throttle_time_ms i32 1+
 error_code i16

LeaveGroup 13 0-1 4
 group_id str
 member_id str
=
 throttle_time_ms i32 1+
 error_code i16

SyncGroup 14 0-3 4
 group_id str
 generation_id i32
 member_id str
 group_instance_id ?str 3+
 assignments [ member_id str; assignment bytes ]
=
 throttle_time_ms i32 1+
 error_code i16
 assignment bytes

DescribeGroups 15 0-4 5
 groups [str]
 include_authorized_operations bool 3+
=
 throttle_time_ms i32 1+
 groups [ error_code i16; group_id str; group_state str; protocol_type str; protocol_data str; members [ member_id str; group_instance_id ?str 4+; client_id str; client_host str; member_metadata bytes; member_assignment bytes ]; authorized_operations i32 3+ ]

ListGroups 16 0-2 3
=
 throttle_time_ms i32 1+
 error_code i16
 groups [ group_id str; protocol_type str ]

SaslHandshake 17 0-1 2
 mechanism str
=
 error_code i16
 mechanisms [str]

ApiVersions 18 0-3 3
 client_software_name str 3+
 client_software_version str 3+
=
 error_code i16
 api_keys [ api_key i16; min_version i16; max_version i16 ]
 throttle_time_ms i32 1+

CreateTopics 19 0-4 5
 topics [ name str; num_partitions i32; replication_factor i16; assignments [ index i32; broker_ids [i32] ]; configs [ name str; value ?str ] ]
 timeout_ms i32
 validate_only bool 1+
=
 throttle_time_ms i32 2+
 topics [ name str; error_code i16; error_message ?str 1+ ]

DeleteTopics 20 0-3 4
 topics [str]
 timeout_ms i32
=
 throttle_time_ms i32 1+
 topics [ name str; error_code i16 ]

DeleteRecords 21 0-1 2
 topics [ name str; partitions [ index i32; offset i64 ] ]
 timeout_ms i32
=
 throttle_time_ms i32
 topics [ name str; partitions [ index i32; low_watermark i64; error_code i16 ] ]

InitProducerId 22 0-4 2
 transactional_id ?str
 transaction_timeout_ms i32
 producer_id i64 3+
 producer_epoch i16 3+
=
 throttle_time_ms i32
 error_code i16
 producer_id i64
 producer_epoch i16

AddPartitionsToTxn 24 0-2 3
 transactional_id str
 producer_id i64
 producer_epoch i16
 topics [ name str; partitions [i32] ]
=
 throttle_time_ms i32
 topics [ name str; partitions [ index i32; error_code i16 ] ]

AddOffsetsToTxn 25 0-2 3
 transactional_id str
 producer_id i64
 producer_epoch i16
 group_id str
=
 throttle_time_ms i32
 error_code i16

EndTxn 26 0-2 3
 transactional_id str
 producer_id i64
 producer_epoch i16
 committed bool
=
 throttle_time_ms i32
 error_code i16

TxnOffsetCommit 28 0-3 3
 transactional_id str
 group_id str
 producer_id i64
 producer_epoch i16
 generation_id i32 3+
 member_id str 3+
 group_instance_id ?str 3+
 topics [ name str; partitions [ index i32; committed_offset i64; committed_leader_epoch i32 2+; committed_metadata ?str ] ]
=
 throttle_time_ms i32
 topics [ name str; partitions [ index i32; error_code i16 ] ]

DescribeConfigs 32 0-1 4
 resources [ resource_type i8; resource_name str; configuration_keys ?[str] ]
 include_synonyms bool 1+
=
 throttle_time_ms i32
 resources [ error_code i16; error_message ?str; resource_type i8; resource_name str; configs [ name str; value ?str; read_only bool; is_default bool 0-0; config_source i8 1+; is_sensitive bool; synonyms [ name str; value ?str; source i8 ] 1+ ] ]

AlterConfigs 33 0-1 2
 resources [ resource_type i8; resource_name str; configs [ name str; value ?str ] ]
 validate_only bool
=
 throttle_time_ms i32
 resources [ error_code i16; error_message ?str; resource_type i8; resource_name str ]

SaslAuthenticate 36 0-1 2
 auth_bytes bytes
=
 error_code i16
 error_message ?str
 auth_bytes bytes
 session_lifetime_ms i64 1+

CreatePartitions 37 0-1 2
 topics [ name str; count i32; assignments ?[ broker_ids [i32] ] ]
 timeout_ms i32
 validate_only bool
=
 throttle_time_ms i32
 topics [ name str; error_code i16; error_message ?str ]

DeleteGroups 42 0-1 2
 groups [str]
=
 throttle_time_ms i32
 groups [ group_id str; error_code i16 ]

IncrementalAlterConfigs 44 0-0 1
 resources [ resource_type i8; resource_name str; configs [ name str; config_operation i8; value ?str ] ]
 validate_only bool
=
 throttle_time_ms i32
 resources [ error_code i16; error_message ?str; resource_type i8; resource_name str ]

OffsetDelete 47 0-0 1
 group_id str
 topics [ name str; partitions [ index i32 ] ]
=
 error_code i16
 throttle_time_ms i32
 topics [ name str; partitions [ index i32; error_code i16 ] ]

ConsumerGroupHeartbeat 68 0-1 0
 group_id str
 member_id str
 member_epoch i32
 instance_id ?str
 rack_id ?str
 rebalance_timeout_ms i32
 subscribed_topic_names ?[str]
 subscribed_topic_regex ?str 1+
 server_assignor ?str
 owned ?[ topic_id uuid; partitions [i32] ]
=
 throttle_time_ms i32
 error_code i16
 error_message ?str
 member_id ?str
 member_epoch i32
 heartbeat_interval_ms i32
 assignment ?{ owned [ topic_id uuid; partitions [i32] ] }

ConsumerGroupDescribe 69 0-0 0
 groups [str]
 include_authorized_operations bool
=
 throttle_time_ms i32
 groups [ error_code i16; error_message ?str; group_id str; group_state str; group_epoch i32; assignment_epoch i32; assignor_name str; members [ member_id str; instance_id ?str; rack_id ?str; member_epoch i32; client_id str; client_host str; subscribed_topic_names [str]; subscribed_topic_regex ?str; assigned { owned [ topic_id uuid; topic_name str; partitions [i32] ] }; target { owned [ topic_id uuid; topic_name str; partitions [i32] ] } ]; authorized_operations i32 ]
"""  # noqa: E501


def _versions(words: list[str]) -> tuple[int, int]:
    """Take ``5+`` or ``2-4`` from the front of the words, where it stands there."""
    if not words or not words[0][0].isdigit():
        return 0, 99
    first, _, last = words.pop(0).replace("+", "-99").partition("-")
    return int(first), int(last)


def _fields(words: list[str]) -> list[Field]:
    """Parse fields up to the bracket that closes them."""
    found = []
    while words and words[0] not in ("]", "}"):
        if words[0] == ";":
            words.pop(0)
            continue
        name, kind = words.pop(0), words.pop(0)
        fields = []
        if kind in ("[", "?[", "{", "?{"):
            fields = _fields(words)
            words.pop(0)
        found.append(Field(name, kind, *_versions(words), fields))
    return found


def _parse(text: str) -> Api:
    head, *lines = text.strip().splitlines()
    name, key, versions, flexible = head.split()
    request, _, answer = "\n".join(lines).partition("=")
    first, last = _versions([versions])
    parts = [_fields(part.replace(";", " ; ").split()) for part in (request, answer)]
    return Api(name, int(key), first, last, int(flexible), *parts)


APIS = {api.key: api for api in map(_parse, _TABLE.strip().split("\n\n"))}
BY_NAME = {api.name: api for api in APIS.values()}


def _compile(fields: list[Field], version: int, flexible: bool) -> tuple[wire.Read, wire.Write]:
    known = []
    for one in fields:
        if one.first <= version <= one.last:
            if one.kind.endswith("{"):
                kind = _compile(one.fields, version, flexible)
                kind = wire.optional(kind) if one.kind == "?{" else kind
            elif one.fields:
                kind = wire.array(_compile(one.fields, version, flexible), flexible, one.kind.startswith("?"))
            elif one.kind.endswith("]"):
                element = wire.plain(one.kind.strip("?[]"), flexible)
                kind = wire.array(element, flexible, one.kind.startswith("?"))
            else:
                kind = wire.plain(one.kind, flexible)
            known.append((one.name, kind))
    return wire.structure(known, flexible)


@functools.cache
def reader(key: int, version: int) -> wire.Read:
    """Return what reads a request's body."""
    api = APIS[key]
    return _compile(api.request, version, version >= api.flexible)[0]


@functools.cache
def writer(key: int, version: int) -> wire.Write:
    """Return what appends an answer's body."""
    api = APIS[key]
    return _compile(api.answer, version, version >= api.flexible)[1]


_DEFAULTS: dict[str, Any] = {"str": "", "bytes": b"", "bool": False, "throttle_time_ms": 0}


def refusal(fields: list[Field], request: Any, code: int) -> dict[str, Any]:
    """Answer a request, or a part of one, with one error code wherever the answer has a place for it."""
    answer: dict[str, Any] = {}
    for one in fields:
        asked = getattr(request, one.name, None)
        if one.name == "error_code":
            answer[one.name] = code
        elif one.fields and not one.kind.endswith("{"):
            first = one.fields[0].name if one.fields[0].name != "error_code" else one.fields[1].name
            answer[one.name] = [
                refusal(one.fields, each, code)
                if not isinstance(each, int | str)
                else refusal(one.fields, None, code) | {first: each}
                for each in asked or ()
            ]
        elif one.kind.startswith("?"):
            answer[one.name] = None
        elif one.kind.startswith("["):
            answer[one.name] = []
        elif asked is not None and one.name not in ("member_id", "records"):
            answer[one.name] = asked
        else:
            answer[one.name] = _DEFAULTS.get(one.name, _DEFAULTS.get(one.kind, -1))
    return answer
