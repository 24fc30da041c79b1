"""The decision core: routing, decoding plan, verification, voting, the group record. No I/O framework, no torch."""
