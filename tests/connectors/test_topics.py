from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.connectors.topics import AMQP, MQTT, NATS, REDIS, Grammar, Place, TopicTemplate, check_names
from streamrde.errors import ParameterError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://host", MqttAddress("host", 1883)),
        ("mqtts://host", MqttAddress("host", 8883, tls=True)),
        ("mqtt://10.0.0.1:1884/", MqttAddress("10.0.0.1", 1884)),
        ("mqtt://me:p%40ss%2Fword@host:99", MqttAddress("host", 99, "me", "p@ss/word")),
        ("mqtt://me@host", MqttAddress("host", 1883, "me")),
        ("mqtt://[::1]:1885", MqttAddress("::1", 1885)),
    ],
)
def test_an_address_is_read_from_a_url(url: str, address: MqttAddress) -> None:
    assert MqttAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    ["", "host:1883", "http://host", "mqtt://", "mqtt://me:S3CRET", "mqtt://me:S3CRET/x@host", "mqtt://me:S3CRET@host:port",
     "mqtt://me:S3CRET@host:99999", "mqtt://me:S3CRET@host/topic", "mqtt://me:S3CRET@host?x", "mqtt://:S3CRET@host", "mqtt://me:S3CRET@[::1"],
)  # fmt: skip
def test_a_wrong_address_is_an_error_without_the_password(url: str) -> None:
    with pytest.raises(ParameterError, match="mqtt://host:1883") as caught:
        MqttAddress.parse(url)
    assert "S3CRET" not in str(caught.value)


def test_a_password_is_neither_printed_nor_shown() -> None:
    address = MqttAddress.parse("mqtt://me:S3CRET@host:99")
    assert str(address) == "host:99"
    assert "S3CRET" not in repr(address)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "sensors/imu",
        "sensors/{stream}-imu",
        "{stream}/{stream}",
        "a/{stream}/b{stream}",
        "a/{Stream}",
        "{stream}/{channel}/{channel}",
        "{stream}/x{channel}",
        "site-{site}/{stream}",
        "{site}/{site}/{stream}",
        "{}/{stream}",
        "{0}/{stream}",
        "{{site}}/{stream}",
        "${site}/{stream}",
        "{site/{stream}",
        "a+/{stream}",
        "#/{stream}",
        "{stream}/a#",
        "$share/group/{stream}",
        "{stream}/\0",
    ],
)
def test_a_template_that_cannot_work_is_an_error(template: str) -> None:
    with pytest.raises(ParameterError, match="topic "):
        TopicTemplate(template)


@pytest.mark.parametrize(
    ("template", "topic_filter", "topic", "place"),
    [
        ("plant/{stream}/{channel}", "plant/+/+", "plant/p1/temp", Place("p1", "temp")),
        ("plant/{stream}/{channel}", "plant/+/+", "plant/p1/", None),
        ("{channel}/{stream}", "+/+", "temp/p1", Place("p1", "temp")),
        ("site/+/{stream}/imu", "site/+/+/imu", "site/b/p1/imu", Place("p1")),
        ("site/{stream}/#", "site/+/#", "site/p1/a/b", Place("p1")),
        ("site/{stream}/#", "site/+/#", "site/p1", Place("p1")),
        ("site/{stream}/#", "site/+/#", "site", None),
    ],
)
def test_channels_and_wildcards(template: str, topic_filter: str, topic: str, place: Place | None) -> None:
    assert TopicTemplate(template).filter == topic_filter
    assert TopicTemplate(template).place_of(topic) == place
    with pytest.raises(ParameterError, match="nothing can be published"):
        TopicTemplate(template).topic_for("p1")


@pytest.mark.parametrize("template", ["{stream}", "sensors/{stream}", "sensors/{stream}/imu", "/{stream}/"])
@given(stream=st.text(st.characters(exclude_characters="/+#\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_the_stream_comes_back_out_of_its_topic(template: str, stream: str) -> None:
    topic = TopicTemplate(template)
    assert topic.place_of(topic.topic_for(stream)) == Place(stream)
    assert topic.filter == template.replace("{stream}", "+")


@pytest.mark.parametrize(
    "topic", ["sensors/imu", "sensors//imu", "sensors/a/b/imu", "x/a/imu", "sensors/a/gps", "sensors/imu/imu/imu", ""]
)
def test_a_topic_that_does_not_fit_has_no_stream(topic: str) -> None:
    assert TopicTemplate("sensors/{stream}/imu").place_of(topic) is None


@pytest.mark.parametrize("stream", ["", "a/b", "a+", "#", "nul\0", "x" * 70_000])
def test_a_stream_that_cannot_be_a_level_is_an_error(stream: str) -> None:
    with pytest.raises(ParameterError, match="rename it"):
        TopicTemplate("sensors/{stream}").topic_for(stream)


@pytest.mark.parametrize(
    ("template", "topic", "stream"),
    [
        ("{site}/{stream}/imu", "plant1/w1/imu", "plant1/w1"),
        ("plant/{site}/{line}/{stream}", "plant/a/7/w1", "a/7/w1"),
        ("{stream}/{part}", "w1/left", "w1/left"),
    ],
)
def test_a_name_may_have_several_levels(template: str, topic: str, stream: str) -> None:
    made = TopicTemplate(template)
    assert made.place_of(topic) == Place(stream)
    assert made.topic_for(stream) == topic
    assert made.filter.count("+") == len(made.names) == stream.count("/") + 1
    assert made.place_of(topic.replace("w1", "")) is None
    for name in ("w1", stream + "/x", stream.replace("w1", ""), stream.replace("w1", "+")):
        with pytest.raises(ParameterError, match=r"has \d levels? and|with a level for each|rename it"):
            made.topic_for(name)


def test_a_channel_is_no_part_of_a_name_and_wildcards_are_none_either() -> None:
    template = TopicTemplate("{site}/{stream}/+/{channel}/#")
    assert template.filter == "+/+/+/+/#"
    assert template.place_of("p/w1/x/temp/a/b") == Place("p/w1", "temp")
    assert template.device_of("p/w1/x/temp/a") == "p/w1/x/{channel}/a"
    assert template.names == ("{site}", "{stream}")


def test_topics_of_one_source_name_streams_in_one_way() -> None:
    check_names([TopicTemplate("{site}/{stream}/imu"), TopicTemplate("b/{site}/+/{stream}")])
    for other in ("{stream}/gps", "{stream}/{site}", "{plant}/{stream}"):
        with pytest.raises(ParameterError, match="use the same levels in braces"):
            check_names([TopicTemplate("{site}/{stream}/imu"), TopicTemplate(other)])


@pytest.mark.parametrize(
    ("template", "stream", "topic"),
    [
        ("p/{stream}", "w1", "p/w1"), ("p/{stream}", "a/b", "p/a%2Fb"), ("p/{stream}", "a+#\0", "p/a%2B%23%00"),
        ("p/{stream}", "50 %", "p/50 %"), ("p/{stream}", "a%2Fb", "p/a%252Fb"), ("p/{stream}", "", "p/%"),
        ("p/{g}/{n}/{stream}/x", "g/n/d", "p/g/n/d/x"), ("p/{g}/{n}/{stream}", "g/n", "p/g/n"),
        ("p/{g}/{n}/{stream}", "g/n/d/e", "p/g/n/d%2Fe"), ("p/{g}/{stream}", "/a", "p/%/a"),
    ],
)  # fmt: skip
def test_predictions_of_a_stream_of_any_name_have_a_topic(template: str, stream: str, topic: str) -> None:
    assert TopicTemplate(template).topic_of_any(stream) == topic


@pytest.mark.parametrize("grammar", [MQTT, NATS, AMQP, REDIS])
@given(st.lists(st.text(st.sampled_from("ab/.:+*#>% \0é25F"), max_size=5), min_size=2, max_size=2, unique=True))
def test_streams_of_any_two_names_have_two_topics_of_the_templates_levels(grammar: Grammar, streams: list[str]) -> None:
    template = TopicTemplate(f"p{grammar.separator}{{stream}}", grammar)
    first, second = (template.topic_of_any(stream) for stream in streams)
    assert first != second
    signs = {grammar.one, grammar.rest, "\0"} - {""}
    assert first.count(grammar.separator) == 1
    assert not signs.intersection(first)
    assert template.place_of(first) is not None
