"""The requests for the cluster and its topics: Metadata, FindCoordinator, and the administrator's.

The cluster is one node. Its address is the one that the client's own listener advertises, so that a client behind a
proxy stays behind it. References: KIP-4 (topics), KIP-195 (CreatePartitions), KIP-133 and KIP-339 (settings).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from kafka_server.codes import Code, Refused
from kafka_server.groups import Groups
from kafka_server.topics import DEFAULTS, Topics, check_settings

NODE = 1
_NO_ID = uuid.UUID(int=0)
_TOPIC = 2  # resource type of DescribeConfigs
_UNKNOWN_OPERATIONS = -2147483648


class Admin:
    """The handlers."""

    def __init__(self, topics: Topics, groups: Groups) -> None:
        self._topics = topics
        self._groups = groups
        self.cluster = "strict-" + uuid.uuid4().hex[:15]

    def metadata(self, request: Any, context: Any) -> dict[str, Any]:
        """Metadata: null topics (version 0: none) are all; unknown ones are made where both sides allow it."""
        if request.topics is None:
            names: list[tuple[str | None, uuid.UUID]] = [(name, _NO_ID) for name in self._topics.by_name]
        else:
            names = [(one.name, getattr(one, "topic_id", _NO_ID)) for one in request.topics]
        create = self._topics.automatic and getattr(request, "allow_auto_topic_creation", True)
        return {
            "throttle_time_ms": 0,
            "brokers": [{"node_id": NODE, "host": context.host_told, "port": context.port_told, "rack": None}],
            "cluster_id": self.cluster,
            "controller_id": NODE,
            "topics": [self._topic(name, identity, create) for name, identity in names],
            "cluster_authorized_operations": _UNKNOWN_OPERATIONS,
        }

    def _topic(self, name: str | None, identity: uuid.UUID, create: bool) -> dict[str, Any]:
        answer = {
            "error_code": Code.NONE,
            "name": name,
            "topic_id": identity,
            "is_internal": False,
            "partitions": [],
            "topic_authorized_operations": _UNKNOWN_OPERATIONS,
        }
        if name is None:
            found = next((one for one in self._topics.by_name.values() if one.id == identity), None)
            if found is None:
                return answer | {"error_code": Code.UNKNOWN_TOPIC_ID}
            name = found.name
        try:
            if create and name not in self._topics.by_name:
                self._topics.create(name)
            topic = self._topics.topic(name)
        except Refused as error:
            return answer | {"error_code": error.code}
        partitions = [
            {
                "error_code": 0,
                "index": index,
                "leader_id": NODE,
                "leader_epoch": 0,
                "replica_nodes": [NODE],
                "isr_nodes": [NODE],
                "offline_replicas": [],
            }
            for index in range(len(topic.partitions))
        ]
        return answer | {"name": name, "topic_id": topic.id, "partitions": partitions}

    def find_coordinator(self, request: Any, context: Any) -> dict[str, Any]:
        """FindCoordinator: this node, for groups (0) and transactional ids (1)."""
        known = getattr(request, "key_type", 0) in (0, 1)
        return {
            "throttle_time_ms": 0,
            "error_code": Code.NONE if known else Code.INVALID_REQUEST,
            "error_message": None,
            "node_id": NODE if known else -1,
            "host": context.host_told,
            "port": context.port_told,
        }

    def _each(self, topics: list[Any], act: Callable[[Any], None]) -> dict[str, Any]:
        answers = []
        for one in topics:
            name = one if isinstance(one, str) else one.name
            try:
                act(one)
                answers.append({"name": name, "error_code": 0, "error_message": None})
            except Refused as error:
                answers.append({"name": name, "error_code": error.code, "error_message": error.message})
        return {"throttle_time_ms": 0, "topics": answers}

    def create_topics(self, request: Any, context: Any) -> dict[str, Any]:
        """CreateTopics: one replica each, as there is one node."""
        only_check = getattr(request, "validate_only", False)

        def create(one: Any) -> None:
            partitions = len(one.assignments) if one.assignments else one.num_partitions
            if not one.assignments and one.replication_factor not in (-1, 1):
                raise Refused(
                    Code.INVALID_REPLICATION_FACTOR, f"replication factor {one.replication_factor} with one broker"
                )
            settings = {each.name: each.value for each in one.configs if each.value is not None}
            self._topics.create(one.name, partitions, settings, only_check=only_check)

        return self._each(request.topics, create)

    def delete_topics(self, request: Any, context: Any) -> dict[str, Any]:
        """DeleteTopics: with the groups' offsets."""

        def delete(name: str) -> None:
            self._topics.delete(name)
            for group in self._groups.by_name.values():
                for where in group.offsets.known():
                    if where[0] == name:
                        group.offsets.forget(where)

        return self._each(request.topics, delete)

    def create_partitions(self, request: Any, context: Any) -> dict[str, Any]:
        """CreatePartitions."""
        return self._each(
            request.topics, lambda one: self._topics.grow(one.name, one.count, only_check=request.validate_only)
        )

    def describe_configs(self, request: Any, context: Any) -> dict[str, Any]:
        """DescribeConfigs: of topics; the node has none to show."""

        def describe(one: Any) -> dict[str, Any]:
            answer = {
                "error_code": Code.NONE,
                "error_message": None,
                "resource_type": one.resource_type,
                "resource_name": one.resource_name,
                "configs": [],
            }
            if one.resource_type != _TOPIC:
                return answer
            try:
                topic = self._topics.topic(one.resource_name)
            except Refused as error:
                return answer | {"error_code": error.code, "error_message": error.message}
            wanted = sorted(DEFAULTS) if one.configuration_keys is None else one.configuration_keys
            return answer | {
                "configs": [
                    {
                        "name": name,
                        "value": topic.setting(name),
                        "read_only": False,
                        "is_default": name not in topic.settings,
                        "config_source": 1 if name in topic.settings else 5,
                        "is_sensitive": False,
                        "synonyms": [],
                    }
                    for name in wanted
                    if name in DEFAULTS
                ]
            }

        return {"throttle_time_ms": 0, "resources": [describe(one) for one in request.resources]}

    def alter_configs(self, request: Any, context: Any) -> dict[str, Any]:
        """AlterConfigs: the settings given, and defaults for the rest."""
        return self._alter(
            request, lambda topic, one: {each.name: each.value for each in one.configs if each.value is not None}
        )

    def incremental_alter_configs(self, request: Any, context: Any) -> dict[str, Any]:
        """IncrementalAlterConfigs: set (0) and delete (1), append (2) and subtract (3) in lists."""

        def change(topic: Any, one: Any) -> dict[str, str]:
            settings = dict(topic.settings)
            for each in one.configs:
                if each.name not in DEFAULTS:
                    raise Refused(Code.INVALID_CONFIG, f"unknown topic config name: {each.name}")
                listed = [word for word in topic.setting(each.name).split(",") if word]
                if each.config_operation == 0:
                    settings[each.name] = each.value
                elif each.config_operation == 1:
                    settings.pop(each.name, None)
                elif each.config_operation == 2:
                    settings[each.name] = ",".join(dict.fromkeys([*listed, *each.value.split(",")]))
                else:
                    settings[each.name] = ",".join(word for word in listed if word not in each.value.split(","))
            return settings

        return self._alter(request, change)

    def _alter(self, request: Any, change: Callable[[Any, Any], dict[str, str]]) -> dict[str, Any]:
        answers = []
        for one in request.resources:
            code, message = Code.NONE, None
            try:
                if one.resource_type != _TOPIC:
                    raise Refused(Code.INVALID_REQUEST, "only topics have settings here")
                topic = self._topics.topic(one.resource_name)
                settings = change(topic, one)
                check_settings(settings)
                if not request.validate_only:
                    topic.settings = settings
            except Refused as error:
                code, message = error.code, error.message
            answers.append(
                {
                    "error_code": code,
                    "error_message": message,
                    "resource_type": one.resource_type,
                    "resource_name": one.resource_name,
                }
            )
        return {"throttle_time_ms": 0, "resources": answers}
