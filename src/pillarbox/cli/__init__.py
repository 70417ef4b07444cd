"""Commands, thin: parse, call console.operations, doctor or bench, print."""
