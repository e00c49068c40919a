//! The cases that Twitter published for its rules: `conformance/extract.yml` of twitter-text (Apache-2.0,
//! <https://github.com/twitter/twitter-text>), the parts `hashtags`, `hashtags_from_astral`, `hashtags_with_indices`, `mentions` and
//! `mentions_or_lists_with_indices`.

use super::words::{hashtags, mentions};

const HASHTAGS: &[(&str, &[&str])] = &[
    ("a #hashtag here", &["hashtag"]),
    ("this is #hashtag1", &["hashtag1"]),
    ("#1hashtag is this", &["1hashtag"]),
    ("On the #16 bus", &[]),
    ("#0", &[]),
    (
        "(#hashtag1 )#hashtag2 [#hashtag3 ]#hashtag4 ’#hashtag5’#hashtag6",
        &["hashtag1", "hashtag2", "hashtag3", "hashtag4", "hashtag5", "hashtag6"],
    ),
    ("I'll write more tests #mañana", &["mañana"]),
    ("Working remotely #café", &["café"]),
    ("Getting my Oktoberfest on #münchen", &["münchen"]),
    ("this is not valid: # 会議中 ハッシュ", &[]),
    ("What is #트위터 anyway?", &["트위터"]),
    ("Just random half-width Hangul #ﾣﾦﾰ", &["ﾣﾦﾰ"]),
    ("What is #ашок anyway?", &["ашок"]),
    ("#カタカナ is a hashtag", &["カタカナ"]),
    ("#ひらがな FTW!", &["ひらがな"]),
    ("#漢字 is the future", &["漢字"]),
    ("Hashtag #カタカナ", &["カタカナ"]),
    ("Japanese hashtags #ひらがな", &["ひらがな"]),
    ("Study time #漢字", &["漢字"]),
    ("See my #カタカナ hashtag?", &["カタカナ"]),
    ("Study #ひらがな for fun and profit", &["ひらがな"]),
    ("Some say #漢字 is the past. what do they know?", &["漢字"]),
    ("日本語ハッシュタグテスト #日本語ハッシュタグ", &["日本語ハッシュタグ"]),
    ("日本語ハッシュテスト。#日本語ハッシュタグ", &["日本語ハッシュタグ"]),
    ("#日本語ハッシュタグ。", &["日本語ハッシュタグ"]),
    ("全角英数字ハッシュタグ ＃ｈａｓｈｔａｇ１２３", &["ｈａｓｈｔａｇ１２３"]),
    ("日本語ハッシュタグ#日本語ハッシュタグ", &[]),
    ("長音ハッシュタグ。#サッカー", &["サッカー"]),
    ("長音ハッシュタグ。#ｻｯｶｰ", &["ｻｯｶｰ"]),
    ("#ﾊｯｼｭﾀｸﾞ #ﾊﾟﾋﾟﾌﾟﾍﾟﾎﾟ", &["ﾊｯｼｭﾀｸﾞ", "ﾊﾟﾋﾟﾌﾟﾍﾟﾎﾟ"]),
    ("できましたよー！#日本語ハッシュタグ。", &["日本語ハッシュタグ"]),
    ("できましたよー！＃日本語ハッシュタグ。", &["日本語ハッシュタグ"]),
    ("#云々 #学問のすゝめ #いすゞ #各〻 #各〃", &["云々", "学問のすゝめ", "いすゞ", "各〻", "各〃"]),
    ("#メ～テレ ハッシュタグ内で～が認識されず", &["メ～テレ"]),
    ("#メ〜テレ ハッシュタグ内で～が認識されず", &["メ〜テレ"]),
    ("Here’s a test tweet for you: #Ateş #qrşt #ştu #ş", &["Ateş", "qrşt", "ştu", "ş"]),
    ("Here’s a test tweet for you: #İn #ın", &["İn", "ın"]),
    ("#hashtag: #hashtag; #hashtag, #hashtag. #hashtag! #hashtag?", &["hashtag", "hashtag", "hashtag", "hashtag", "hashtag", "hashtag"]),
    (":#hashtag ;#hashtag ,#hashtag .#hashtag !#hashtag ?#hashtag", &["hashtag", "hashtag", "hashtag", "hashtag", "hashtag", "hashtag"]),
    ("#hashtag\ntest\n#hashtag2\ntest\n#hashtag3\n", &["hashtag", "hashtag2", "hashtag3"]),
    ("#http://twitter.com #https://twitter.com", &[]),
    ("http://twitter.com/#hashtag twitter.com/#hashtag", &[]),
    ("#Azərbaycanca #mûǁae #Čeština #Ċaoiṁín", &["Azərbaycanca", "mûǁae", "Čeština", "Ċaoiṁín"]),
    (
        "#سیاست #ایران #السياسة #السياح #لغات  #اتمی  #کنفرانس #العربية #الجزيرة #فارسی",
        &["سیاست", "ایران", "السياسة", "السياح", "لغات", "اتمی", "کنفرانس", "العربية", "الجزيرة", "فارسی"],
    ),
    (
        "#برنامه_نویسی  #رییس_جمهور  #رئيس_الوزراء, #ثبت_نام. #لس_آنجلس",
        &["برنامه_نویسی", "رییس_جمهور", "رئيس_الوزراء", "ثبت_نام", "لس_آنجلس"],
    ),
    ("#עַל־יְדֵי #וכו׳ #מ״כ", &["עַל־יְדֵי", "וכו׳", "מ״כ"]),
    (
        "#ผู้เริ่ม #การเมือง #รายละเอียด #นักท่องเที่ยว #ของขวัญ #สนามบิน #เดินทาง #ประธาน",
        &["ผู้เริ่ม", "การเมือง", "รายละเอียด", "นักท่องเที่ยว", "ของขวัญ", "สนามบิน", "เดินทาง", "ประธาน"],
    ),
    ("#أي\u{200c}بي\u{200c}إم #می\u{200c}خواهم", &["أي\u{200c}بي\u{200c}إم", "می\u{200c}خواهم"]),
    ("የአላህ መልእክተኛ ሰለላሁ ዓለይሂ ወሰለም #ኢትዮሙስሊምስ", &["ኢትዮሙስሊምስ"]),
    ("#ශ්\u{200d}රීලංකා", &["ශ්\u{200d}රීලංකා"]),
    ("#۳۴۵هشتگ #هشتگ۶۷۸ #ســـلام_عليكم_٤٠٦", &["۳۴۵هشتگ", "هشتگ۶۷۸", "ســـلام_عليكم_٤٠٦"]),
    ("#महात्मा #महात्मा_१२३४ #१२३४ गांधी", &["महात्मा", "महात्मा_१२३४"]),
    (
        "#বাংলা #ગુજરાતી #ಕನ್ನಡ #മലയാളം #ଓଡ଼ିଆ #ਪੰਜਾਬੀ #සිංහල #தமிழ் #తెలుగు",
        &["বাংলা", "ગુજરાતી", "ಕನ್ನಡ", "മലയാളം", "ଓଡ଼ିଆ", "ਪੰਜਾਬੀ", "සිංහල", "தமிழ்", "తెలుగు"],
    ),
    ("#བོད་སྐད་ #བོད་སྐད", &["བོད་སྐད་", "བོད་སྐད"]),
    ("#មហាត្មះគន្ធី #မြင့်မြတ်သော #ຊີວະສາດ", &["មហាត្មះគន្ធី", "မြင့်မြတ်သော", "ຊີວະສາດ"]),
    ("#Μαχάτμα_Γκάντι ήταν Ινδός πολιτικός", &["Μαχάτμα_Γκάντι"]),
    ("#Մահաթմա #მაჰათმა", &["Մահաթմա", "მაჰათმა"]),
    ("#il·lusió", &["il·lusió"]),
    ("#_ #1_2 #122 #〃", &[]),
    ("#\u{20021}", &["\u{20021}"]),
    ("#\u{16f04}\u{16f51}", &["\u{16f04}\u{16f51}"]),
    ("#A\u{104a0}", &["A\u{104a0}"]),
    ("#hashtag here", &["hashtag"]),
    ("test a #hashtag", &["hashtag"]),
    ("test a #hashtag in a string", &["hashtag"]),
    ("#123 a #hashtag in a string", &["hashtag"]),
    ("会議中 #hashtag 会議中", &["hashtag"]),
    ("One #two three #four", &["two", "four"]),
    ("Hashtags in #русский!", &["русский"]),
    ("Hashtags in #中文, #日本語, #한국말, and #русский! Try it out!", &["中文", "日本語", "한국말", "русский"]),
];

const MENTIONS: &[(&str, &[&str])] = &[
    ("@username reply", &["username"]),
    ("mention @username", &["username"]),
    ("mention @username in the middle", &["username"]),
    ("mention @user_name", &["user_name"]),
    ("mention @12345", &["12345"]),
    ("mention @username1 @username2", &["username1", "username2"]),
    ("の@usernameに到着を待っている", &["username"]),
    ("Current Status: @_@ (cc: @username)", &["username"]),
    ("@aliceìnheiro something something", &[]),
    ("@username email me @test@example.com", &["username"]),
    ("@http://twitter.com", &[]),
    ("@username\n@mention", &["username", "mention"]),
    ("RT@username RT:@mention RT @test", &["username", "mention", "test"]),
    ("rt@username rt:@mention rt @test", &["username", "mention", "test"]),
    ("Rt@username Rt:@mention Rt @test", &["username", "mention", "test"]),
    ("rT@username rT:@mention rT @test", &["username", "mention", "test"]),
    ("f!@kn", &[]),
    ("f@@kn", &[]),
    ("f#@kn", &[]),
    ("f$@kn", &[]),
    ("f%@kn", &[]),
    ("f&@kn", &[]),
    ("f*@kn", &[]),
    ("@username yo!", &["username"]),
    ("username @username", &["username"]),
    // Lists are no screen names.
    ("@username/list-name is a great list!", &[]),
    ("Hey @username, check out out @otheruser/list_name-01!", &["username"]),
    ("の@username/list_name-01に到着を待っている", &[]),
    ("@username/7list-name is a great list!", &["username"]),
];

#[test]
fn hashtags_are_those_of_the_published_cases() {
    for (text, expected) in HASHTAGS {
        assert_eq!(hashtags(text), *expected, "in {text:?}");
    }
}

#[test]
fn mentions_are_those_of_the_published_cases() {
    for (text, expected) in MENTIONS {
        assert_eq!(mentions(text), *expected, "in {text:?}");
    }
}
