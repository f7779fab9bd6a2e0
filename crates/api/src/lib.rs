//! Every way in: the control socket, and its client.
