//! Property and differential tests of the wire formats.

mod mqtt;
