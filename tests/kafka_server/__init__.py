"""A strict Kafka broker for tests, in memory and in one process: it keeps Kafka's rules of transactions to the letter.

Start it by ``python -m kafka_server`` with tests/ on the path, or by `brokers.strict_kafka`. One node, one replica of
each partition, all state in memory. The modules, from the bottom up:

wire.py, messages.py    the protocol's types, and the table of requests and answers that this broker knows
batches.py, log.py      record batches, and a partition's log: sequences, the last stable offset, aborted transactions
compaction.py           cleanup by key, on demand
topics.py               topics, their partitions and settings
groups.py, offsets.py   consumer groups and their committed offsets
consumer_groups.py      groups of the consumer protocol
commits.py              the requests for offsets and for groups
transactions.py         transactional producers: epochs, fencing, markers, timeouts
data.py, admin.py       the requests for records and for topics
access.py               SASL
faults.py, control.py   what a test asks for: errors, silence, cut connections, a look inside
server.py               connections
handle.py               the test's end of the control port
"""
