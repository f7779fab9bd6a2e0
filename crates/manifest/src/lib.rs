//! Turns YAML text into typed settings, lists every problem, and says what changed.
