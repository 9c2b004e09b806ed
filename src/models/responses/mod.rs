//! Responses.
#![allow(dead_code)]

mod events;
mod frames;
mod id;
mod object;
mod relay;
mod request;
mod translate;
