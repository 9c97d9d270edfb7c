//! The address of a server, in the one way in which it is written wherever it is asked.

use reqwest::Url;

/// `text` as requests name it: its host in lower case, no default port, no slash at its end. Or why it
/// is none, and what to write.
pub fn address(text: &str) -> Result<String, (&'static str, &'static str)> {
    let begins = "it begins with https://";
    let url = Url::parse(text.trim()).map_err(|_| ("is no web address", begins))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(("is no web address", begins));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help =
            "a key goes into an environment variable (`{ env = \"...\" }`), never into an address";
        return Err(("holds a name or a password", help));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("has a query", "write it up to its path: what is asked is added to its end"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for (text, expected) in [
            ("https://API.openai.com/v1/", "https://api.openai.com/v1"),
            (" https://api.openai.com:443/v1\n", "https://api.openai.com/v1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:8000/V1", "http://localhost:8000/V1"),
        ] {
            assert_eq!(address(text), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "api.openai.com", "ftp://host", "http://", "http://name:secret@host/v1"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(address("https://host/v1?key=secret").is_err());
    }
}
