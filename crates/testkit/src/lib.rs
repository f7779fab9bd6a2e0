//! Real servers and scratch places for the tests.
