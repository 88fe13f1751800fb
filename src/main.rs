//! Command line of ringgate.

fn main() {}
