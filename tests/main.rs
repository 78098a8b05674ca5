//! End-to-end tests: the real `rctr`, as an ordinary user, on the real kernel. One file per user task; the name of a
//! test is its claim. `scripts/test` prepares the machine and runs them; `harness` has the tools.

mod harness;

mod bad_input;
mod build;
mod build_bad_input;
mod build_beside;
mod build_cache;
mod build_crash;
mod build_end;
mod build_language;
mod build_options;
mod build_output;
mod build_platforms;
mod build_print;
mod build_travel;
mod commit;
mod cp;
mod crash;
mod drivers;
mod exec;
mod hostile_layer;
mod images;
mod lifecycle;
mod logs;
mod many;
mod network;
mod platform;
mod registry;
mod registry_faults;
mod registry_login;
mod registry_platforms;
mod registry_tools;
mod run;
mod security;
mod show;
mod terminal;
mod volumes;
mod web_server;
