//! Six verbs over the queue families, and the store of failed jobs.
