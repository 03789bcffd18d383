//! `cru sync config`: what a vault's folder says about itself.

use crucible_node::api;
use crucible_node::config::{self, Change, Mode, Overlap, Policy, parse_server};
use crucible_node::http::Origin;
use serde_json::json;

use crate::args::{Config, ConfigVerb, OverlapChoice};
use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{FAINT, plain};
use crate::vault_folder::VaultFolder;

/// Shows or changes it.
pub fn run(args: &Config, context: &Context) -> Outcome {
    let folder = VaultFolder::find(&context.start)?;
    match &args.what {
        None => {}
        Some(ConfigVerb::Server { url }) => server(&folder, context, url)?,
        Some(ConfigVerb::Policy { glob, overlap }) => {
            if let Err(error) = globset::Glob::new(glob) {
                return Err(Failure::new(Exit::Usage, format!("{glob:?} is no pattern: {error}"))
                    .hint("for instance 'Daily/**' for a folder and all below it"));
            }
            let policy = |overlap| Change::Policy(Policy { glob: glob.clone(), overlap });
            let change = match overlap {
                OverlapChoice::Lww => policy(Overlap::Lww),
                OverlapChoice::Both => policy(Overlap::Both),
                OverlapChoice::Copy => policy(Overlap::Copy),
                OverlapChoice::None => Change::NoPolicy(glob.clone()),
            };
            config::change(&folder.root, &change)?;
        }
    }
    show(&VaultFolder::find(&context.start)?, context)
}

/// Points the vault at another address, after asking whether the same vault is there.
fn server(folder: &VaultFolder, context: &Context, url: &str) -> Outcome<()> {
    let Some(url) = parse_server(url) else {
        return Err(Failure::new(Exit::Usage, format!("{url:?} is no address of a server"))
            .hint("it has the form http(s)://host:port"));
    };
    let vault = &folder.config.vault;
    let kept_for = folder.server().unwrap_or(&url);
    let token = context.token_for(&url, |home| home.credential(kept_for, vault))?;
    let origin = Origin { url: url.clone(), token: Some(token), roots_pem: None };
    let there = api::vault(&mut context.http(origin)?, vault)?;
    if there.map(|there| there.id) != Some(folder.config.vault_id) {
        let message = format!("{url} has another vault {vault}, or none; nothing was changed");
        return Err(Failure::new(Exit::Refused, message));
    }
    if let Some(old) = folder.server() {
        context.home.server_moved(old, &url)?;
    }
    config::change(&folder.root, &Change::Server(url))?;
    Ok(())
}

fn show(folder: &VaultFolder, context: &Context) -> Outcome {
    let output = &context.output;
    let config = &folder.config;
    let name = |overlap| match overlap {
        Overlap::Lww => "lww",
        Overlap::Both => "both",
        Overlap::Copy => "copy",
    };
    let policies: Vec<_> = config
        .policies
        .iter()
        .map(|policy| json!({ "glob": policy.glob, "overlap": name(policy.overlap) }))
        .collect();
    let file = config::path_of(&folder.root);
    output.value(&json!({
        "type": "config",
        "file": file.display().to_string(),
        "vault": config.vault,
        "vault_id": config.vault_id.to_string(),
        "server": folder.server(),
        "policies": policies,
    }))?;
    output.line(output.paint(FAINT, file.display()))?;
    output.line(format!("vault   {}", plain(&config.vault)))?;
    match &config.mode {
        Mode::Local => output.line("server  none: versions are kept here alone")?,
        Mode::Remote { server } => output.line(format!("server  {server}"))?,
    }
    for policy in &config.policies {
        output.line(format!("policy  {:<6}  {}", name(policy.overlap), plain(&policy.glob)))?;
    }
    Ok(Exit::Ok)
}
