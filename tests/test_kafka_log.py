"""The strict broker's log: sequences, epochs, transactions, without a client."""

from __future__ import annotations

import pytest
from kafka_server import batches
from kafka_server.batches import Header, Record
from kafka_server.codes import Code, Refused
from kafka_server.log import PartitionLog

PLAIN, TRANSACTIONAL = 0, batches.TRANSACTIONAL


def batch(*, producer=7, epoch=0, sequence=0, count=1, attributes=PLAIN):
    head = Header(attributes, count - 1, 1000, 1000, producer, epoch, sequence, count)
    data = batches.kept(0, head, [Record(each, 1000, b"k", b"v", (("h", b"x"),)) for each in range(count)])
    return data, batches.header(data)


def append(log, **fields):
    return log.append(*batch(**fields))


def refused(log, **fields):
    with pytest.raises(Refused) as error:
        append(log, **fields)
    return error.value.code


def test_a_batch_reads_as_it_was_written():
    data, head = batch(count=3)
    batches.check_crc(data)
    placed = batches.placed(data, 40)
    batches.check_crc(placed)
    assert [record.offset for record in batches.records(placed)] == [40, 41, 42]
    assert list(batches.records(data))[1] == Record(1, 1000, b"k", b"v", (("h", b"x"),))
    assert (head.count, head.last_sequence) == (3, 2)


def test_a_changed_byte_is_found_by_the_checksum():
    data, _ = batch()
    for at in range(21, len(data)):
        with pytest.raises(Refused):
            batches.check_crc(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_crc32c_is_castagnolis():
    assert batches.crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720's polynomial


@pytest.mark.parametrize("cut", [0, 10, batches.SIZE - 1, batches.SIZE + 3])
def test_a_batch_that_was_cut_is_refused(cut):
    with pytest.raises(Refused):
        batches.header(batch()[0][:cut])


def test_two_batches_in_one_request_are_refused():
    with pytest.raises(Refused) as error:
        batches.header(batch()[0] * 2)
    assert error.value.code is Code.INVALID_RECORD


def test_each_of_the_last_five_batches_may_be_repeated():
    log = PartitionLog()
    offsets = [append(log, sequence=2 * each, count=2) for each in range(7)]
    assert offsets == [0, 2, 4, 6, 8, 10, 12]
    assert [append(log, sequence=2 * each, count=2) for each in range(2, 7)] == offsets[2:]
    assert refused(log, sequence=2, count=2) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.end == 14


def test_a_gap_in_the_sequence_is_refused():
    log = PartitionLog()
    append(log, sequence=0, count=2)
    assert refused(log, sequence=3) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refused(log, sequence=1) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert append(log, sequence=2) == 2


def test_sequences_begin_again_after_the_last_one():
    log = PartitionLog()
    append(log, sequence=2**31 - 2, count=2)
    assert append(log, sequence=0) == 2


def test_a_producer_that_the_log_does_not_know_may_begin_anywhere():
    assert append(PartitionLog(), sequence=41) == 0


def test_a_new_epoch_begins_at_zero_and_fences_the_old_one():
    log = PartitionLog()
    append(log, sequence=0, count=5)
    assert refused(log, epoch=1, sequence=5) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert append(log, epoch=1, sequence=0) == 5
    assert refused(log, epoch=0, sequence=5) is Code.INVALID_PRODUCER_EPOCH


def test_a_marker_of_a_new_epoch_fences_the_old_one():
    log = PartitionLog()
    append(log, attributes=TRANSACTIONAL)
    log.finish(7, 1, commit=False)
    assert refused(log, sequence=1, attributes=TRANSACTIONAL) is Code.INVALID_PRODUCER_EPOCH
    assert append(log, epoch=1, sequence=0, attributes=TRANSACTIONAL) == 2


def test_a_marker_of_an_old_epoch_is_refused():
    log = PartitionLog()
    append(log, epoch=3, attributes=TRANSACTIONAL)
    with pytest.raises(Refused) as error:
        log.finish(7, 2, commit=True)
    assert error.value.code is Code.INVALID_PRODUCER_EPOCH


def test_sequences_go_on_from_one_transaction_to_the_next():
    log = PartitionLog()
    append(log, sequence=0, count=3, attributes=TRANSACTIONAL)
    log.finish(7, 0, commit=True)
    assert refused(log, sequence=0, attributes=TRANSACTIONAL) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert append(log, sequence=3, attributes=TRANSACTIONAL) == 4


def test_a_plain_batch_in_an_open_transaction_is_refused():
    log = PartitionLog()
    append(log, attributes=TRANSACTIONAL)
    assert refused(log, sequence=1) is Code.INVALID_TXN_STATE


def test_the_stable_offset_is_the_first_record_of_the_oldest_open_transaction():
    log = PartitionLog()
    append(log, producer=-1, epoch=-1, sequence=-1, count=2)
    append(log, producer=1, attributes=TRANSACTIONAL)
    append(log, producer=2, attributes=TRANSACTIONAL)
    append(log, producer=1, sequence=1, attributes=TRANSACTIONAL)
    assert (log.stable, log.end) == (2, 5)
    log.finish(1, 0, commit=False)
    assert (log.stable, log.end) == (3, 6)
    log.finish(2, 0, commit=True)
    assert (log.stable, log.end) == (7, 7)


def test_readers_are_told_of_aborted_transactions_that_they_may_meet():
    log = PartitionLog()
    for producer, commit in ((1, False), (2, True), (3, False)):
        append(log, producer=producer, attributes=TRANSACTIONAL)
        log.finish(producer, 0, commit)
    assert [one.first for one in log.aborted_between(0, 6)] == [0, 4]
    assert [one.first for one in log.aborted_between(1, 4)] == [0]  # its marker is still ahead
    assert [one.first for one in log.aborted_between(2, 4)] == []
    log.delete_before(3)
    assert [one.first for one in log.aborted] == [4]


def test_a_read_has_one_batch_at_least_and_no_more_than_it_asked_for():
    log = PartitionLog()
    for each in range(4):
        append(log, sequence=each)
    size = len(batch()[0])
    assert len(log.read(0, 1, committed=False, one_at_least=True)[0]) == 1
    assert log.read(0, 1, committed=False, one_at_least=False) == ([], 0)
    found, after = log.read(1, 2 * size, committed=False, one_at_least=True)
    assert (len(found), after) == (2, 3)
    for outside in (-1, 5):
        with pytest.raises(Refused) as error:
            log.read(outside, size, committed=False, one_at_least=True)
        assert error.value.code is Code.OFFSET_OUT_OF_RANGE
