//! So many in so long, as flags say it.

use std::str::FromStr;

/// So many in so long; the length may be left to another flag.
#[derive(Clone, Copy)]
pub struct Rate {
    pub count: u64,
    pub seconds: Option<u64>,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let (count, window) =
            text.split_once('/').map_or((text, None), |(count, window)| (count, Some(window)));
        let number = |text: &str| match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{text:?} is no number above 0")),
        };
        let seconds = match window {
            None => None,
            Some("h") => Some(3600),
            Some("m") => Some(60),
            Some(seconds) => Some(number(seconds.strip_suffix('s').unwrap_or_default())?),
        };
        Ok(Rate { count: number(count)?, seconds })
    }
}
