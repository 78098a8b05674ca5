//! How the web is reached, as the environment says it.

use rctr_storage::web::Settings;

/// Small letters win, as with curl and git.
pub(crate) fn settings() -> Settings {
    let found = |names: [&str; 2]| {
        let values = names.iter().filter_map(|name| std::env::var(name).ok());
        values.into_iter().find(|value| !value.is_empty())
    };
    Settings {
        http_proxy: found(["http_proxy", "HTTP_PROXY"]),
        https_proxy: found(["https_proxy", "HTTPS_PROXY"]),
        no_proxy: found(["no_proxy", "NO_PROXY"]).unwrap_or_default(),
        ..Settings::default()
    }
}
