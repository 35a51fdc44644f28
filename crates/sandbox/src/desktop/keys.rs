//! Keys by QEMU's names (`QKeyCode`), and which of them type a character.
//!
//! Names: <https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html#enum-QMP-ui.QKeyCode>. The
//! guest reads positions on a US keyboard, so that characters are those of that layout.

use crate::error::{Error, Result};
use std::str::FromStr;

macro_rules! keys {
    ($($name:ident $qcode:literal)*) => {
        /// A key of the keyboard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "the names are the keys' own")]
        pub enum Key { $($name),* }

        impl Key {
            /// Every key, in QEMU's words.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// QEMU's name of the key.
            pub fn qcode(self) -> &'static str {
                match self { $(Self::$name => $qcode),* }
            }
        }
    };
}

keys! {
    A "a" B "b" C "c" D "d" E "e" F "f" G "g" H "h" I "i" J "j" K "k" L "l" M "m"
    N "n" O "o" P "p" Q "q" R "r" S "s" T "t" U "u" V "v" W "w" X "x" Y "y" Z "z"
    Key0 "0" Key1 "1" Key2 "2" Key3 "3" Key4 "4" Key5 "5" Key6 "6" Key7 "7" Key8 "8" Key9 "9"
    F1 "f1" F2 "f2" F3 "f3" F4 "f4" F5 "f5" F6 "f6" F7 "f7" F8 "f8" F9 "f9" F10 "f10" F11 "f11"
    F12 "f12"
    Shift "shift" ShiftR "shift_r" Ctrl "ctrl" CtrlR "ctrl_r" Alt "alt" AltR "alt_r"
    MetaL "meta_l" MetaR "meta_r"
    CapsLock "caps_lock" NumLock "num_lock" ScrollLock "scroll_lock"
    Ret "ret" Spc "spc" Tab "tab" Backspace "backspace" Esc "esc" Delete "delete"
    Insert "insert" Home "home" End "end" PgUp "pgup" PgDn "pgdn"
    Up "up" Down "down" Left "left" Right "right"
    Minus "minus" Equal "equal" BracketLeft "bracket_left" BracketRight "bracket_right"
    Backslash "backslash" Semicolon "semicolon" Apostrophe "apostrophe"
    GraveAccent "grave_accent" Comma "comma" Dot "dot" Slash "slash"
    Print "print" Pause "pause" Menu "menu"
    Kp0 "kp_0" Kp1 "kp_1" Kp2 "kp_2" Kp3 "kp_3" Kp4 "kp_4" Kp5 "kp_5" Kp6 "kp_6" Kp7 "kp_7"
    Kp8 "kp_8" Kp9 "kp_9" KpAdd "kp_add" KpSubtract "kp_subtract" KpMultiply "kp_multiply"
    KpDivide "kp_divide" KpDecimal "kp_decimal" KpEnter "kp_enter"
    AudioMute "audiomute" VolumeUp "volumeup" VolumeDown "volumedown"
    AudioPlay "audioplay" AudioStop "audiostop" AudioNext "audionext" AudioPrev "audioprev"
    AcBack "ac_back" AcForward "ac_forward" AcHome "ac_home" AcRefresh "ac_refresh"
    AcBookmarks "ac_bookmarks" Mail "mail" Calculator "calculator" Sleep "sleep" Wake "wake"
}

impl FromStr for Key {
    type Err = Error;

    /// Reads any name of one key, in any case; see [`Key::combination`].
    fn from_str(name: &str) -> Result<Self> {
        match Self::combination(name)?[..] {
            [key] => Ok(key),
            _ => Err(Error::InvalidValue {
                option: "keys",
                value: name.to_owned(),
                allowed: "the name of one key".into(),
                hint: Some("Read several with `Key::combination`".into()),
            }),
        }
    }
}

/// The keys that type a character on a US keyboard: one, or Shift and one.
pub(super) fn typing(character: char) -> Option<Vec<Key>> {
    const SHIFTED: &[(char, Key)] = &[
        ('!', Key::Key1),
        ('@', Key::Key2),
        ('#', Key::Key3),
        ('$', Key::Key4),
        ('%', Key::Key5),
        ('^', Key::Key6),
        ('&', Key::Key7),
        ('*', Key::Key8),
        ('(', Key::Key9),
        (')', Key::Key0),
        ('_', Key::Minus),
        ('+', Key::Equal),
        ('{', Key::BracketLeft),
        ('}', Key::BracketRight),
        ('|', Key::Backslash),
        (':', Key::Semicolon),
        ('"', Key::Apostrophe),
        ('~', Key::GraveAccent),
        ('<', Key::Comma),
        ('>', Key::Dot),
        ('?', Key::Slash),
    ];
    const PLAIN: &[(char, Key)] = &[
        (' ', Key::Spc),
        ('\n', Key::Ret),
        ('\t', Key::Tab),
        ('-', Key::Minus),
        ('=', Key::Equal),
        ('[', Key::BracketLeft),
        (']', Key::BracketRight),
        ('\\', Key::Backslash),
        (';', Key::Semicolon),
        ('\'', Key::Apostrophe),
        ('`', Key::GraveAccent),
        (',', Key::Comma),
        ('.', Key::Dot),
        ('/', Key::Slash),
    ];
    let of = |table: &[(char, Key)]| table.iter().find(|(c, _)| *c == character).map(|(_, k)| *k);
    if let Some(key) = of(PLAIN) {
        return Some(vec![key]);
    }
    if let Some(key) = of(SHIFTED) {
        return Some(vec![Key::Shift, key]);
    }
    if !character.is_ascii_alphanumeric() {
        return None;
    }
    let name = character.to_ascii_lowercase().to_string();
    let key = *Key::ALL.iter().find(|key| key.qcode() == name)?;
    Some(if character.is_ascii_uppercase() { vec![Key::Shift, key] } else { vec![key] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_its_keys_and_no_two_the_same() {
        let mut seen = std::collections::HashSet::new();
        for character in (' '..='~').chain(['\n', '\t']) {
            let keys = typing(character).unwrap_or_else(|| panic!("{character:?} has no key"));
            assert!(seen.insert(keys.clone()), "{character:?} types as another: {keys:?}");
        }
        assert_eq!(typing('H'), Some(vec![Key::Shift, Key::H]));
        assert_eq!(typing('!'), Some(vec![Key::Shift, Key::Key1]));
        for character in ['é', '漢', '\u{1f600}', '\u{7f}', '\r', '\u{1b}'] {
            assert_eq!(typing(character), None, "{character:?}");
        }
    }

    #[test]
    fn keys_are_read_by_qemus_names() {
        assert_eq!("CTRL".parse::<Key>().unwrap(), Key::Ctrl);
        for key in Key::ALL {
            assert_eq!(key.qcode().parse::<Key>().unwrap(), *key);
        }
        let error = "cntrl".parse::<Key>().unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("Did you mean `ctrl`?"));
    }
}
