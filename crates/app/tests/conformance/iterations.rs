//! The judge of iterations that are made again and again: on time, none left out, none twice.

use std::collections::BTreeMap;

use qfleet_testkit::Received;

use crate::stage::millis;

/// Half of them come sooner after their date (ms).
const SOON: i64 = 700;
/// The latest one, on a machine that has much else to do (ms).
const LATEST: i64 = 15_000;

/// The date of an iteration, which its id ends with.
pub(crate) fn date(id: &str) -> i64 {
    id.rsplit(':').next().unwrap().parse().unwrap()
}

/// Dates of iterations, and when each was begun (ms).
pub(crate) type Course = BTreeMap<i64, i64>;

/// The course of the iterations of this name that our handlers got. Each came once, and once more at most where the worker
/// was killed that had it in hand.
#[track_caller]
pub(crate) fn course(got: &[Received], name: &str) -> Course {
    let mut course = Course::new();
    for request in got.iter().filter(|request| request.header("Job-Name") == Some(name)) {
        let date = date(request.header("Job-Id").unwrap());
        let again = request.header("Job-Previous-Status") == Some("crash");
        let before = course.get(&date).copied();
        assert!(before.is_none() || again, "`{name}` of {date} came twice");
        course.insert(date, before.unwrap_or_else(|| millis(request.at)));
    }
    course
}

/// Every `step` ms there is one. Whoever begins one so late that the next one's date has passed makes the one after that, here
/// and in the library.
#[track_caller]
pub(crate) fn none_left_out(course: &Course, step: i64) {
    for ((date, came), (next, _)) in course.iter().zip(course.iter().skip(1)) {
        // Nobody's clock is read twice at the same moment.
        let late = came - date + 2;
        let apart = next - date;
        assert!(apart % step == 0 && (apart == step || late >= step), "none at {}: {course:?}", date + step);
        assert!(apart - step <= late, "more left out than passed: {course:?}");
    }
}

/// None comes before its date, and most soon after it.
#[track_caller]
pub(crate) fn on_time(course: &Course) {
    let mut late: Vec<i64> = course.iter().map(|(date, came)| came - date).collect();
    late.sort_unstable();
    assert!(late[0] >= -2 && late[late.len() / 2] < SOON && late[late.len() - 1] < LATEST, "{late:?} ms");
}
