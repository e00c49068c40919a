//! Who may do what: bearer tokens with roles, and what a request without one may do.

mod tokens;

use std::path::PathBuf;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;

use self::tokens::{Known, Tokens};
pub use self::tokens::{Role, TokensError};
use crate::problem::Problem;

/// The cookie of the dashboard's log-in.
const COOKIE: &str = "refold_session";

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// A bearer token of role `admin`.
    pub token: Option<String>,
    /// A file of tokens with roles, reread when it has changed.
    pub tokens_file: Option<PathBuf>,
    /// Whether reading needs no token.
    pub public_reads: bool,
    /// Whether only this machine reaches the listener: then reading needs no token, and without any token nothing does.
    pub is_local: bool,
    /// Origins besides its own whose pages may use the API, `https://HOST`.
    pub origins: Vec<String>,
    /// Whether the listener speaks TLS: then the cookie is for TLS alone.
    pub is_tls: bool,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token; `None`: there was none.
    pub name: Option<String>,
    /// What it may do; `None`: nothing.
    pub role: Option<Role>,
    /// Whether the token came in the cookie, which browsers send by themselves.
    pub is_by_cookie: bool,
}

impl Caller {
    /// The name of a token that is somebody's; that of the settings is everybody's who has it.
    pub fn own_name(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| *name != tokens::OF_SETTINGS)
    }
}

/// Lets callers in.
pub struct Access {
    settings: AccessSettings,
    tokens: RwLock<Tokens>,
}

impl Access {
    /// Access by these settings.
    ///
    /// # Errors
    /// When the tokens file is not one.
    pub fn new(settings: AccessSettings) -> Result<Access, TokensError> {
        let tokens = Tokens::load(settings.token.as_deref(), settings.tokens_file.as_deref())?;
        Ok(Access { settings, tokens: RwLock::new(tokens) })
    }

    /// Reads the tokens file again if it has changed. While it is not valid, the tokens before count.
    pub fn reread(&self) {
        let Some(file) = &self.settings.tokens_file else { return };
        let seen = Tokens::stamp(file);
        if self.tokens.read().stamp == seen {
            return;
        }
        match Tokens::load(self.settings.token.as_deref(), Some(file)) {
            Ok(tokens) => {
                tracing::info!(file = %file.display(), tokens = tokens.len(), "tokens were read again");
                *self.tokens.write() = tokens;
            }
            Err(error) => {
                tracing::error!(%error, "the tokens file was changed and is not valid: the tokens before are in force");
                self.tokens.write().stamp = seen;
            }
        }
    }

    /// Origins besides its own whose pages may use the API.
    pub fn origins(&self) -> &[String] {
        &self.settings.origins
    }

    /// Whether answers depend on who asks.
    pub fn is_private(&self) -> bool {
        self.anonymous() < Some(Role::Read)
    }

    /// Whether a caller without a token is let in for being on this machine.
    pub fn is_open(&self) -> bool {
        self.settings.is_local && !self.has_tokens()
    }

    /// What it takes to post events: on a listener that only this machine reaches, nothing.
    pub fn posting(&self) -> Role {
        if self.settings.is_local { Role::Read } else { Role::Operate }
    }

    fn has_tokens(&self) -> bool {
        self.settings.token.is_some() || self.settings.tokens_file.is_some()
    }

    /// What a caller without a token may do.
    fn anonymous(&self) -> Option<Role> {
        match self.settings.is_local || self.settings.public_reads {
            _ if self.is_open() => Some(Role::Admin),
            true => Some(Role::Read),
            false => None,
        }
    }

    /// Who asks, by the token in the header, else by that in the cookie.
    ///
    /// # Errors
    /// 401 when the token in the header is not known. One in a cookie may have been taken back since: then there is none.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let known =
            |found: Option<Known>, is_by_cookie| found.map(|known| Caller { name: Some(known.name), role: Some(known.role), is_by_cookie });
        // Where there are no tokens, one that was sent all the same counts for nothing.
        if self.has_tokens() && headers.contains_key(header::AUTHORIZATION) {
            let caller = bearer(headers).and_then(|token| known(self.tokens.read().find(token), false));
            return caller.ok_or_else(|| {
                let detail = "the token is not one that this server knows; refold takes it from --token or REFOLD_TOKEN";
                Problem::new(StatusCode::UNAUTHORIZED, "token", "The token is missing or wrong", detail)
            });
        }
        let by_cookie = cookie(headers).and_then(|token| known(self.tokens.read().find(&token), true));
        Ok(by_cookie.unwrap_or(Caller { name: None, role: self.anonymous(), is_by_cookie: false }))
    }

    /// Refuses a caller whose role is less than `wanted`.
    ///
    /// # Errors
    /// 401 without a token, 403 where no token could help or its role is too small.
    pub fn require(&self, caller: &Caller, wanted: Role) -> Result<(), Problem> {
        // Whoever may read without a token may do so with any.
        if caller.role.max(self.anonymous()) >= Some(wanted) {
            return Ok(());
        }
        let (what, setting) = match wanted {
            Role::Read => ("reading", ", or public_reads = true"),
            Role::Operate | Role::Admin => ("administration", ""),
        };
        if let (Some(name), Some(role)) = (&caller.name, caller.role) {
            let detail = format!("the token {name} has the role {}, and this needs {}", role.name(), wanted.name());
            return Err(Problem::new(StatusCode::FORBIDDEN, "role", "The token may not do this", detail).with("needs", wanted.name()));
        }
        if !self.has_tokens() {
            let detail = format!(
                "{what} is closed: this address can be reached from other machines and no token is set; set one (REFOLD_TOKEN, or token or \
                 tokens_file in refold.toml{setting}), or listen on 127.0.0.1"
            );
            return Err(Problem::new(StatusCode::FORBIDDEN, "closed", "This is closed", detail));
        }
        let detail = format!("{what} needs the header authorization: Bearer <token>; refold takes it from --token or REFOLD_TOKEN");
        Err(Problem::new(StatusCode::UNAUTHORIZED, "token", "The token is missing or wrong", detail).with("needs", wanted.name()))
    }

    /// The cookie of a browser that logs in with a token. It holds the token itself: the server keeps no sessions, so all processes know it, and a token
    /// that is taken out of the file is of no use at once.
    ///
    /// # Errors
    /// 401 when the token is not known.
    pub fn log_in(&self, token: &str) -> Result<String, Problem> {
        if self.tokens.read().find(token).is_none() {
            let detail = "the token is not one that this server knows";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "token", "The token is missing or wrong", detail));
        }
        Ok(self.set_cookie(&URL_SAFE_NO_PAD.encode(token), ""))
    }

    /// The cookie that replaces that of [`log_in`](Access::log_in).
    pub fn log_out(&self) -> String {
        self.set_cookie("", "; Max-Age=0")
    }

    fn set_cookie(&self, value: &str, more: &str) -> String {
        let secure = if self.settings.is_tls { "; Secure" } else { "" };
        format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/{secure}{more}")
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let value = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == COOKIE)?.1;
    String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn with_token(settings: AccessSettings) -> Access {
        Access::new(AccessSettings { token: Some("secret".into()), ..settings }).unwrap()
    }

    #[test]
    fn only_the_right_token_is_let_in() {
        let access = with_token(AccessSettings::default());
        let is_let_in = |value: &str| access.caller(&headers(header::AUTHORIZATION, value)).is_ok();
        assert!(is_let_in("Bearer secret"));
        assert!(is_let_in("bearer secret"));
        for wrong in ["secret", "Basic secret", "Bearer secre", "Bearer secrets", "Bearer", "Bearer SECRET"] {
            assert!(!is_let_in(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_cookie_is_as_good_as_its_token_and_forgotten_when_that_is_not_known() {
        let access = with_token(AccessSettings::default());
        let set = access.log_in("secret").unwrap();
        assert_eq!(set, "refold_session=c2VjcmV0; HttpOnly; SameSite=Strict; Path=/");
        let caller = |cookie: &str| access.caller(&headers(header::COOKIE, cookie)).unwrap();
        let expected = Caller { name: Some("token".into()), role: Some(Role::Admin), is_by_cookie: true };
        assert_eq!(caller("theme=dark; refold_session=c2VjcmV0"), expected);
        let nobody = Caller { name: None, role: None, is_by_cookie: false };
        for cookie in ["refold_session=", "refold_session=x", "refold_session=Z3Vlc3M", "xrefold_session=c2VjcmV0", "refold_session=!"] {
            assert_eq!(caller(cookie), nobody, "{cookie}");
        }
        assert!(access.log_in("guess").is_err());
        let tls = with_token(AccessSettings { is_tls: true, ..AccessSettings::default() });
        assert!(tls.log_in("secret").unwrap().ends_with("; Secure"));
        assert!(access.log_out().contains("Max-Age=0"));
    }

    #[test]
    fn without_a_token_this_machine_may_read_and_where_there_is_none_do_everything() {
        let local = AccessSettings { is_local: true, ..AccessSettings::default() };
        let public = AccessSettings { public_reads: true, ..AccessSettings::default() };
        let anonymous = |access: &Access| access.caller(&HeaderMap::new()).unwrap().role;
        assert_eq!(anonymous(&Access::new(local.clone()).unwrap()), Some(Role::Admin));
        assert_eq!(anonymous(&with_token(local)), Some(Role::Read));
        assert_eq!(anonymous(&with_token(public.clone())), Some(Role::Read));
        assert_eq!(anonymous(&Access::new(public).unwrap()), Some(Role::Read));
        assert_eq!(anonymous(&with_token(AccessSettings::default())), None);
        assert_eq!(anonymous(&Access::new(AccessSettings::default()).unwrap()), None);
    }

    #[test]
    fn a_refusal_says_which_role_is_needed_and_how_to_have_it() {
        let refused = |access: &Access, role: Option<Role>, name: Option<&str>, wanted: Role| {
            let caller = Caller { name: name.map(str::to_owned), role, is_by_cookie: false };
            let document = access.require(&caller, wanted).unwrap_err().document();
            (document.get("status").unwrap().as_u64().unwrap(), document.get("detail").unwrap().as_str().unwrap().to_owned())
        };
        let access = with_token(AccessSettings::default());
        assert_eq!(refused(&access, None, None, Role::Read).0, 401);
        let (status, detail) = refused(&access, Some(Role::Read), Some("ann"), Role::Operate);
        assert_eq!((status, detail.as_str()), (403, "the token ann has the role read, and this needs operate"));
        let closed = Access::new(AccessSettings::default()).unwrap();
        let (status, detail) = refused(&closed, None, None, Role::Read);
        assert!(status == 403 && detail.contains("public_reads = true") && detail.contains("REFOLD_TOKEN"), "{detail}");
    }
}
