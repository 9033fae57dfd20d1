"""The command `sealift-bundler`: one file for each subcommand, each parses, calls one function and prints facts."""
