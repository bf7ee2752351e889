package oktatest

import "countersign.dev/okta"

// UVSituation is how it goes when an agent is to answer a challenge.
type UVSituation string

// The situations. In all but UVDenies the person approves if asked.
const (
	UVVerifies    UVSituation = "verifies"     // there is a key that demands verification, and the person verifies
	UVCancels     UVSituation = "cancels"      // the person dismisses the verification
	UVTemporarily UVSituation = "temporarily"  // the key is there, and cannot be released now: wrong tries, a lockout, no reader
	UVPermanently UVSituation = "permanently"  // the key is lost
	UVNotEnrolled UVSituation = "not enrolled" // there never was such a key
	UVDenies      UVSituation = "denies"       // the person says no
)

// UVVerdict is what an org makes of an answer. The zero value refuses.
type UVVerdict string

// The verdicts, from nothing to all.
const (
	UVRefused  UVVerdict = ""
	UVDenied   UVVerdict = "denied"   // taken as the person's no
	UVTaken    UVVerdict = "taken"    // proves possession, and says nothing of a person
	UVApproved UVVerdict = "approved" // and a person approved
	UVVerified UVVerdict = "verified" // and was verified
)

// UVAnswer is one answer that an honest agent may give.
type UVAnswer struct {
	Verifying bool // signed by a key that demands verification, of either role; else by the silent one
	Consent   okta.Consent
	Verdict   UVVerdict
}

// UVRow is one line of the table: what is asked, how it goes, and which answers
// are honest then. An agent gives one of them.
type UVRow struct {
	Method          okta.Method
	Need, Mediation okta.Need
	Situation       UVSituation
	Answers         []UVAnswer
}

// What challenges may say, unknown words and none among them.
var (
	uvNeeds      = []okta.Need{okta.NeedNone, okta.NeedDiscouraged, okta.NeedPreferred, okta.NeedRequired, "", "SOMETIMES"}
	uvMediations = []okta.Need{okta.NeedNone, okta.NeedOptional, okta.NeedRequired, "", "SOMETIMES"}
	uvSituations = []UVSituation{UVVerifies, UVCancels, UVTemporarily, UVPermanently, UVNotEnrolled, UVDenies}
)

// UVTable is the two-sided table of user verification (devices protocol 4.4 and
// 7.3): every need, with every mediation, in every situation. An agent is held
// to give one of the answers, an org to make of each what the table says.
//
// An agent that cannot verify says so, with its silent key. That is a report:
// REQUIRED refuses it, always. PREFERRED refuses none that is no more than
// that, since clients differ in which they send (7.3, no 6), but takes none but
// an approval for a person. Who dismisses the verification where a person has
// to approve has not approved.
func UVTable() []UVRow {
	var rows []UVRow
	for _, method := range []okta.Method{okta.MethodSignedNonce, okta.MethodPush} {
		for _, need := range uvNeeds {
			for _, mediation := range uvMediations {
				for _, situation := range uvSituations {
					rows = append(rows, UVRow{method, need, mediation, situation, uvAnswers(method, need, mediation, situation)})
				}
			}
		}
	}
	return rows
}

func uvAnswers(method okta.Method, need, mediation okta.Need, situation UVSituation) []UVAnswer {
	var (
		verified = UVAnswer{true, okta.ConsentApprovedUserVerification, UVVerified}
		approved = UVAnswer{false, okta.ConsentApproved, UVApproved}
		silent   = UVAnswer{false, okta.ConsentNone, UVTaken}
		denied   = UVAnswer{false, okta.ConsentDenied, UVDenied}
	)
	// A push without a person means nothing, whatever it says of mediation.
	unasked := method != okta.MethodPush && mediation == okta.NeedNone
	maySilent := method != okta.MethodPush && (mediation == okta.NeedNone || mediation == okta.NeedOptional)
	report := func(c okta.Consent) UVAnswer {
		switch {
		case need == okta.NeedRequired, c == okta.ConsentCancelledUserVerification && !maySilent:
			return UVAnswer{false, c, UVRefused}
		default:
			return UVAnswer{false, c, UVTaken}
		}
	}
	cancelled := report(okta.ConsentCancelledUserVerification)
	temporarily := report(okta.ConsentUVTemporarilyUnavailable)
	permanently := report(okta.ConsentUVPermanentlyUnavailable)

	if need != okta.NeedPreferred && need != okta.NeedRequired {
		switch {
		case unasked && need == okta.NeedDiscouraged && situation == UVVerifies:
			return []UVAnswer{silent, verified} // allowed where it is more convenient
		case unasked:
			return []UVAnswer{silent}
		case situation == UVDenies:
			return []UVAnswer{denied}
		case need == okta.NeedDiscouraged && situation == UVVerifies:
			return []UVAnswer{approved, verified}
		case maySilent:
			return []UVAnswer{approved, silent}
		}
		return []UVAnswer{approved}
	}
	required := need == okta.NeedRequired
	unasked = unasked && !required
	if unasked && situation != UVNotEnrolled {
		// No interaction, in so many words, goes before what is only preferred. A
		// client that asks all the same says what came of it.
		came := map[UVSituation]UVAnswer{UVVerifies: verified, UVCancels: cancelled, UVTemporarily: temporarily, UVPermanently: permanently, UVDenies: denied}
		return []UVAnswer{silent, came[situation]}
	}
	switch situation {
	case UVVerifies:
		return []UVAnswer{verified}
	case UVCancels:
		return []UVAnswer{cancelled, denied}
	case UVTemporarily:
		if required {
			return []UVAnswer{temporarily}
		}
		return []UVAnswer{temporarily, approved}
	case UVPermanently:
		if required {
			return []UVAnswer{permanently}
		}
		return []UVAnswer{permanently, approved}
	case UVNotEnrolled:
		switch {
		case required:
			return []UVAnswer{permanently}
		case unasked:
			return []UVAnswer{silent, permanently} // by OAS-I; nobody was asked, so nobody approved
		}
		return []UVAnswer{approved, silent, permanently} // by Android, Swift, OAS-I
	}
	return []UVAnswer{denied}
}
