//! Request and response types of the guest agent
