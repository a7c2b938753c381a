"""The exact integer arithmetic that the parsing of a stream rests on."""
