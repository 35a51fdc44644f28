//! The names that people and programs use for keys, and combinations of them in one text.
//!
//! Beside QEMU's own names: those of X11's keysyms (`Return`, `Page_Down`, `XF86AudioMute`), which
//! xdotool takes, those of browsers (`ArrowLeft`, `ControlRight`, `KeyA`), and what keyboards have
//! printed on them (`cmd`, `win`, `option`). See
//! <https://gitlab.freedesktop.org/xorg/proto/xorgproto/-/blob/master/include/X11/keysymdef.h> and
//! <https://www.w3.org/TR/uievents-code/>.

use super::keys::{Key, typing};
use crate::error::{Error, Result};

/// What the names of keys are written with or without.
const SEPARATORS: [char; 3] = ['_', '-', ' '];

/// Other names of keys, in lower case and without `_`, `-` and spaces.
const OTHER_NAMES: &[(Key, &str)] = &[
    (Key::Ret, "return enter linefeed"),
    (Key::Esc, "escape"),
    (Key::Spc, "space spacebar"),
    (Key::Backspace, "bksp"),
    (Key::Delete, "del"),
    (Key::Insert, "ins"),
    (Key::PgUp, "pageup prior"),
    (Key::PgDn, "pagedown next"),
    (Key::Up, "arrowup uparrow"),
    (Key::Down, "arrowdown downarrow"),
    (Key::Left, "arrowleft leftarrow"),
    (Key::Right, "arrowright rightarrow"),
    (Key::Shift, "shiftl shiftleft lshift leftshift"),
    (Key::ShiftR, "shiftright rshift rightshift"),
    (Key::Ctrl, "control controll ctrll controlleft ctrlleft lctrl leftctrl"),
    (Key::CtrlR, "controlr controlright ctrlright rctrl rightctrl"),
    (Key::Alt, "altl altleft lalt leftalt option opt"),
    (Key::AltR, "altright ralt rightalt altgr altgraph isolevel3shift"),
    (
        Key::MetaL,
        "meta metaleft super superl superleft lsuper hyper hyperl win winl lwin windows cmd cmdl \
         command commandleft os osleft logo gui",
    ),
    (
        Key::MetaR,
        "metaright superr superright rsuper hyperr winr rwin cmdr rcmd commandright osright",
    ),
    (Key::CapsLock, "caps"),
    (Key::Menu, "apps contextmenu application"),
    (Key::Print, "printscreen prtsc prtscr prtscn snapshot sysrq"),
    (Key::Pause, "break"),
    (Key::Minus, "dash hyphen"),
    (Key::Equal, "equals"),
    (Key::BracketLeft, "leftbracket"),
    (Key::BracketRight, "rightbracket"),
    (Key::Apostrophe, "quote singlequote quoteright"),
    (Key::GraveAccent, "grave backquote backtick quoteleft"),
    (Key::Dot, "period fullstop"),
    (Key::KpAdd, "kpplus numpadadd numpadplus"),
    (Key::KpSubtract, "kpminus numpadsubtract numpadminus"),
    (Key::KpMultiply, "kpasterisk numpadmultiply"),
    (Key::KpDivide, "kpslash numpaddivide"),
    (Key::KpDecimal, "kpperiod kpdot numpaddecimal"),
    (Key::KpEnter, "numpadenter"),
    (Key::AudioMute, "xf86audiomute mute volumemute audiovolumemute"),
    (Key::VolumeUp, "xf86audioraisevolume audiovolumeup"),
    (Key::VolumeDown, "xf86audiolowervolume audiovolumedown"),
    (Key::AudioPlay, "xf86audioplay xf86audiopause playpause mediaplaypause"),
    (Key::AudioStop, "xf86audiostop mediastop"),
    (Key::AudioNext, "xf86audionext mediatracknext"),
    (Key::AudioPrev, "xf86audioprev mediatrackprevious"),
    (Key::AcBack, "xf86back browserback"),
    (Key::AcForward, "xf86forward browserforward"),
    (Key::AcHome, "xf86homepage browserhome"),
    (Key::AcRefresh, "xf86refresh xf86reload browserrefresh"),
    (Key::AcBookmarks, "xf86favorites browserfavorites"),
    (Key::Mail, "xf86mail launchmail"),
    (Key::Calculator, "xf86calculator launchapp2"),
    (Key::Sleep, "xf86sleep"),
    (Key::Wake, "xf86wakeup wakeup"),
];

/// X11's names of characters that need Shift on a US keyboard, or have no key of that name.
const CHARACTERS: &[(&str, char)] = &[
    ("exclam", '!'),
    ("at", '@'),
    ("numbersign", '#'),
    ("dollar", '$'),
    ("percent", '%'),
    ("asciicircum", '^'),
    ("ampersand", '&'),
    ("asterisk", '*'),
    ("parenleft", '('),
    ("parenright", ')'),
    ("underscore", '_'),
    ("plus", '+'),
    ("braceleft", '{'),
    ("braceright", '}'),
    ("bar", '|'),
    ("colon", ':'),
    ("quotedbl", '"'),
    ("asciitilde", '~'),
    ("tilde", '~'),
    ("less", '<'),
    ("greater", '>'),
    ("question", '?'),
];

impl Key {
    /// Reads a key by any of its names, or keys that are joined by `+` (or `-`), such as
    /// `ctrl+shift+t`; characters of a US keyboard may be among them. The keys come in their order.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a name that no key has.
    pub fn combination(text: &str) -> Result<Vec<Self>> {
        if let Some(keys) = one(text) {
            return Ok(keys);
        }
        joined(text, '+').or_else(|| joined(text, '-')).ok_or_else(|| unknown(text))
    }
}

/// The keys of names that a sign joins, the sign's own key among them (`ctrl++`).
fn joined(text: &str, sign: char) -> Option<Vec<Key>> {
    let (names, last) = match text.strip_suffix(sign).and_then(|rest| rest.strip_suffix(sign)) {
        Some(names) => (names, Some(typing(sign)?)),
        None => (text, None),
    };
    let mut keys = Vec::new();
    for name in names.split(sign) {
        keys.extend(one(name)?);
    }
    keys.extend(last.into_iter().flatten());
    Some(keys)
}

/// The keys of one name or character.
fn one(name: &str) -> Option<Vec<Key>> {
    let lower = name.to_ascii_lowercase();
    if let Some(key) = Key::ALL.iter().find(|key| key.qcode() == lower) {
        return Some(vec![*key]);
    }
    let mut characters = name.chars();
    if let (Some(only), None) = (characters.next(), characters.next()) {
        return typing(only);
    }
    if lower.starts_with(SEPARATORS) || lower.ends_with(SEPARATORS) {
        return None;
    }
    let plain = plain(&lower);
    if let Some(key) = Key::ALL.iter().find(|key| self::plain(key.qcode()) == plain) {
        return Some(vec![*key]);
    }
    if let Some((_, character)) = CHARACTERS.iter().find(|(known, _)| *known == plain) {
        return typing(*character);
    }
    // Browsers name the key of a letter or digit by its place: `KeyA`, `Digit1`, `Numpad1`.
    for (prefix, before) in [("key", ""), ("digit", ""), ("numpad", "kp_")] {
        let Some(rest) = plain.strip_prefix(prefix).filter(|rest| rest.len() == 1) else {
            continue;
        };
        let name = format!("{before}{rest}");
        return Key::ALL.iter().find(|key| key.qcode() == name).map(|key| vec![*key]);
    }
    let has = |names: &str| names.split_ascii_whitespace().any(|known| known == plain);
    OTHER_NAMES.iter().find(|(_, names)| has(names)).map(|(key, _)| vec![*key])
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !SEPARATORS.contains(c)).collect()
}

fn unknown(text: &str) -> Error {
    let mut characters = text.chars();
    let hint = match (characters.next(), characters.next()) {
        (Some(only), None) if !only.is_control() => format!(
            "no key of a US keyboard types `{only}`; give the guest's clipboard the text (xclip, with \
             execute(..., stdin=...)), then press ctrl and v"
        ),
        _ => nearest(text).map_or_else(
            || {
                "names are X11's (Return, Page_Down, super), QEMU's (ret, pgdn, meta_l) and \
                 characters of a US keyboard; + joins keys, as in ctrl+s"
                    .to_owned()
            },
            |name| format!("Did you mean `{name}`?"),
        ),
    };
    Error::InvalidValue {
        option: "keys",
        value: text.chars().take(100).collect::<String>().escape_debug().to_string(),
        allowed: "names of keys, such as ctrl, Return, f1, a, or ctrl+s".into(),
        hint: Some(hint),
    }
}

/// The name that one or two slips of the hand made of this one; short names have too many neighbours.
fn nearest(text: &str) -> Option<&'static str> {
    let given = plain(&text.to_ascii_lowercase());
    let slips = match given.chars().count() {
        0..=3 => return None,
        4..=5 => 1,
        _ => 2,
    };
    let others = OTHER_NAMES.iter().flat_map(|(_, names)| names.split_ascii_whitespace());
    let names = Key::ALL.iter().map(|key| key.qcode()).chain(others);
    names
        .map(|name| (strsim::damerau_levenshtein(&given, &plain(name)), name))
        .filter(|(distance, name)| *distance <= slips && name.len() > slips + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> String {
        let keys = Key::combination(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        keys.iter().map(|key| key.qcode()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_names_that_agents_use() {
        for (text, expect) in [
            ("Return", "ret"),
            ("enter", "ret"),
            ("KP_Enter", "kp_enter"),
            ("Escape", "esc"),
            ("space", "spc"),
            (" ", "spc"),
            ("Page_Down", "pgdn"),
            ("page-down", "pgdn"),
            ("PageUp", "pgup"),
            ("Prior", "pgup"),
            ("super", "meta_l"),
            ("Super_L", "meta_l"),
            ("cmd", "meta_l"),
            ("win", "meta_l"),
            ("Meta_R", "meta_r"),
            ("Control_L", "ctrl"),
            ("Alt_R", "alt_r"),
            ("BackSpace", "backspace"),
            ("Caps_Lock", "caps_lock"),
            ("ArrowLeft", "left"),
            ("KeyA", "a"),
            ("Digit5", "5"),
            ("Numpad5", "kp_5"),
            ("KP_Add", "kp_add"),
            ("period", "dot"),
            ("plus", "shift equal"),
            ("+", "shift equal"),
            ("-", "minus"),
            ("_", "shift minus"),
            ("question", "shift slash"),
            ("A", "a"),
            ("XF86AudioMute", "audiomute"),
            ("XF86Back", "ac_back"),
            ("ctrl+s", "ctrl s"),
            ("ctrl-s", "ctrl s"),
            ("ctrl-alt-delete", "ctrl alt delete"),
            ("Ctrl+Shift+T", "ctrl shift t"),
            ("ctrl+Page_Down", "ctrl pgdn"),
            ("ctrl++", "ctrl shift equal"),
            ("ctrl+plus", "ctrl shift equal"),
            ("ctrl--", "ctrl minus"),
            ("shift+!", "shift shift 1"),
            ("super+l", "meta_l l"),
            ("alt+F4", "alt f4"),
        ] {
            assert_eq!(names(text), expect, "{text}");
        }
        for key in Key::ALL {
            assert_eq!(names(key.qcode()), key.qcode());
        }
    }

    #[test]
    fn a_misspelt_key_names_the_nearest_or_all_kinds_of_names() {
        for (text, expect) in [
            ("Retrun", "`return`"),
            ("Escpe", "`escape`"),
            ("cntrl", "`ctrl`"),
            ("pagedwn", "`pagedown`"),
            ("sup", "names are"),
            ("hyperspace", "names are"),
            ("ctrl+", "`ctrl`"),
            ("", "names are"),
            ("\u{e9}", "clipboard"),
            ("\u{6f22}", "clipboard"),
            ("\u{1b}[2J", "names are"),
        ] {
            let error = Key::combination(text).unwrap_err();
            let hint = error.hint().unwrap();
            assert!(hint.contains(expect), "{text}: {hint}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }

    #[test]
    fn no_two_keys_share_a_name() {
        let mut seen = std::collections::HashMap::new();
        let own = Key::ALL.iter().map(|key| (*key, plain(key.qcode())));
        let others = OTHER_NAMES.iter().flat_map(|(key, names)| {
            names.split_ascii_whitespace().map(|name| (*key, name.to_owned()))
        });
        for (key, name) in own.chain(others) {
            assert_eq!(name, plain(&name.to_ascii_lowercase()), "names are written plainly");
            let other = seen.insert(name.clone(), key);
            assert!(other.is_none(), "{name} is {other:?} and {key:?}");
        }
    }
}
