//! `rctr search`.

use clap::{ArgMatches, Command};
use rctr_storage::registry::SearchHit;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::credentials;
use crate::filter::Filters;
use crate::format::{Listing, Quiet, ellipsis};
use crate::output;
use crate::registries::{Registries, tls_verify};
use crate::report::Failure;
use crate::template::Data;

/// `search`.
pub(crate) const VERB: Verb = Verb {
    names: &["search"],
    about: "Search a registry for images",
    args,
    run,
};

const FILTERS: [&str; 3] = ["stars", "is-official", "is-automated"];
/// Characters of a description.
const DESCRIPTION: usize = 45;

fn args(command: Command) -> Command {
    words::required(command, "term", "[REGISTRY/]TERM")
        .arg(words::values(
            "filter",
            Some('f'),
            "Show those that fit, NAME=VALUE: stars (at least so many), is-official",
        ))
        .arg(words::value(
            "format",
            None,
            "Go template for each line, 'table TEMPLATE', or 'json'",
        ))
        .arg(words::value("limit", None, "At most so many, 1 to 100 (default 25)").value_name("N"))
        .arg(words::on("no-trunc", None, "Show descriptions in full"))
        .arg(tls_verify())
}

fn listing() -> Listing {
    Listing {
        headers: &[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("StarCount", "STARS"),
            ("IsOfficial", "OFFICIAL"),
            ("IsAutomated", "AUTOMATED"),
        ],
        table: "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}".to_owned(),
        quiet: "{{.Name}}",
    }
}

fn run(_: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let filters = Filters::parse(&words::list(matches, "filter"), &FILTERS)?;
    let stars = filters.values("stars").map(|value| {
        let number = value.parse::<u64>();
        number.map_err(|_| {
            Failure::new(format!("invalid filter 'stars={value}'")).hint("want a number")
        })
    });
    let stars = stars
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .max()
        .unwrap_or(0);
    let official = filters.truth("is-official")?;
    let format = listing().format(words::text(matches, "format"), Quiet::No)?;
    let limit = match words::text(matches, "limit").map(|text| (text, text.parse())) {
        None => 25,
        Some((_, Ok(limit @ 1..=100))) => limit,
        Some((text, _)) => return Err(words::bad("limit", text, "want a number from 1 to 100")),
    };
    let term = credentials::plain(words::text(matches, "term").unwrap_or_default());
    let (registry, term) = match term.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => (host, term),
        _ => ("docker.io", term),
    };
    let hits = Registries::new(matches)?
        .client
        .search(registry, term, limit)?;
    let fits = |hit: &&SearchHit| {
        hit.star_count >= stars && official.is_none_or(|wanted| hit.is_official == wanted)
    };
    let whole = words::is_on(matches, "no-trunc");
    let rows: Vec<_> = hits
        .iter()
        .filter(fits)
        .map(|hit| row(hit, whole))
        .collect();
    output::text(format.render(rows)?);
    Ok(0)
}

fn row(hit: &SearchHit, whole: bool) -> Data {
    let description = hit.description.replace(['\n', '\r', '\t'], " ");
    let ok = |yes: bool| if yes { "[OK]" } else { "" };
    Data::fields([
        ("Name", Data::text(&hit.name)),
        (
            "Description",
            Data::text(match whole {
                true => description,
                false => ellipsis(&description, DESCRIPTION),
            }),
        ),
        ("StarCount", Data::text(hit.star_count.to_string())),
        ("IsOfficial", Data::text(ok(hit.is_official))),
        ("IsAutomated", Data::text(ok(hit.is_automated))),
    ])
}
