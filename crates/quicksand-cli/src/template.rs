//! `quicksand template`: the machines that later starts copy.
//!
//! What a template is, is `sandbox`'s business; here are words and columns.

use crate::{
    args::TemplateAction,
    places,
    report::{FAILURE, Failure},
    threads,
};
use sandbox::{Sandbox, SandboxConfig, printable, templates};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Does it.
pub fn run(action: &TemplateAction) -> Result<(), Failure> {
    let search = places::search();
    let all = templates::list(&search).map_err(|error| Failure::sandbox(&error))?;
    match action {
        TemplateAction::List { json: true } => {
            let rows: Vec<Value> = all
                .iter()
                .map(|entry| {
                    let used = entry.used.duration_since(UNIX_EPOCH).unwrap_or_default();
                    json!({"key": entry.key, "image": entry.image, "bytes": entry.bytes,
                        "used": used.as_secs()})
                })
                .collect();
            println!("{:#}", Value::Array(rows));
        }
        TemplateAction::List { json: false } => {
            if all.is_empty() {
                eprintln!("There are no templates.");
                eprintln!("hint: `quicksand template create IMAGE` makes one");
            }
            for entry in &all {
                let age = SystemTime::now().duration_since(entry.used).unwrap_or_default();
                println!(
                    "{:.12}  {:16}  {:6.1} MB  used {} min ago",
                    entry.key,
                    printable(&entry.image),
                    entry.bytes as f64 / 1e6,
                    age.as_secs() / 60
                );
            }
        }
        TemplateAction::Clean => {
            for entry in &all {
                templates::remove(&search, &entry.key);
            }
            println!("removed {}", all.len());
        }
        TemplateAction::Create(args) => {
            let mut options = args.machine.to_options(&args.image);
            if options["warm"] != "fork" {
                options["warm"] = json!("make");
            }
            let config =
                SandboxConfig::from_value(options).map_err(|error| Failure::sandbox(&error))?;
            create(config)?;
        }
    }
    Ok(())
}

/// A start makes the template, and proves it by using it.
fn create(config: SandboxConfig) -> Result<(), Failure> {
    let runtime = threads::runtime()?;
    let timing = runtime
        .block_on(async {
            let sandbox = Sandbox::new(config).with_locator(places::search());
            sandbox.start().await?;
            let timing = sandbox.boot_timing();
            sandbox.stop().await?;
            Ok(timing.unwrap_or_default())
        })
        .map_err(|error: sandbox::Error| Failure::sandbox(&error))?;
    if timing.warm {
        println!("a start takes {:.0} ms", timing.boot.as_secs_f64() * 1000.0);
        return Ok(());
    }
    let reason = timing.cold_reason.unwrap_or_else(|| "this system has none".into());
    Err(Failure::new(FAILURE, format!("No template: {reason}"), None))
}
