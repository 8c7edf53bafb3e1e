"""Whether the network holds in a laboratory, told by fields whose classes are known there."""
