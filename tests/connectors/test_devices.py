"""Devices of the field are attached by configuration alone."""

import devices
import pytest

DEVICES = devices.devices()


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.folder.name)
def test_a_device_is_attached_by_configuration_alone(device):
    assert devices.differences(device, devices.read_device(device)) == []


def test_the_page_shows_what_the_tests_read():
    assert devices.PAGE.read_text("utf-8") == devices.page(), "run: python tests/devices.py > docs/devices.md"


def test_there_are_enough_devices_and_each_links_its_documentation():
    assert len(DEVICES) >= 30
    assert all(device.documentation.startswith("https://") for device in DEVICES)
    assert len({device.name for device in DEVICES}) == len(DEVICES)
