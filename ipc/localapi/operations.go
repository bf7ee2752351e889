package localapi

import (
	"encoding/json"
	"net/http"
	"slices"

	"countersign.dev/ipc/api"
)

func (s *Server) status(c *call) (any, error) { return s.agent.Status(c.ctx) }

func (s *Server) accounts(c *call) (any, error) { return s.agent.Accounts(c.ctx) }

func (s *Server) account(c *call) (any, error) { return s.agent.Account(c.ctx, c.id) }

func (s *Server) addAccount(c *call) (any, error) {
	in := *c.in.(*api.AddAccount)
	defer clear(in.PIN)
	return s.agent.AddAccount(c.ctx, in)
}

func (s *Server) beginEnrolment(c *call) (any, error) {
	in := *c.in.(*api.BeginEnrolment)
	defer clear(in.PIN)
	return s.agent.BeginEnrolment(c.ctx, in)
}

func (s *Server) awaitEnrolment(c *call) (any, error) { return s.agent.AwaitEnrolment(c.ctx, c.id) }

func (s *Server) cancelEnrolment(c *call) (any, error) {
	return nil, s.agent.CancelEnrolment(c.ctx, c.id)
}

func (s *Server) renameAccount(c *call) (any, error) {
	return s.agent.RenameAccount(c.ctx, c.id, c.in.(*api.RenameAccount).Name)
}

func (s *Server) removeAccount(c *call) (any, error) {
	return nil, s.agent.RemoveAccount(c.ctx, c.id, c.query.Get("local_only") == "true")
}

func (s *Server) resume(c *call) (any, error) { return s.agent.ResumePushes(c.ctx, c.id) }

func (s *Server) acknowledge(c *call) (any, error) { return s.agent.Acknowledge(c.ctx, c.id) }

func (s *Server) keys(c *call) (any, error) { return s.agent.Keys(c.ctx) }

func (s *Server) changeKeys(c *call) (any, error) {
	in := *c.in.(*api.ChangeKeys)
	defer clear(in.PIN)
	return s.agent.ChangeKeys(c.ctx, c.id, in)
}

func (s *Server) prompts(c *call) (any, error) {
	return s.agent.Prompts(c.ctx, c.query.Get(frontEndParameter.name))
}

// decide lets only a typed answer through; no answer is not an answer.
func (s *Server) decide(c *call) (any, error) {
	d := *c.in.(*api.Decision)
	defer clear(d.PIN)
	if !slices.Contains(api.Actions, d.Action) {
		return nil, refusal(http.StatusBadRequest, "bad_action", `the action must be "approve" or "deny" (or "cancel_verification")`)
	}
	return s.agent.DecidePrompt(c.ctx, c.id, d, c.peer)
}

func (s *Server) showPrompt(c *call) (any, error) { return nil, s.agent.ShowPrompt(c.ctx, c.id) }

func (s *Server) showDoctor(c *call) (any, error) { return nil, s.agent.ShowDoctor(c.ctx) }

func (s *Server) pause(c *call) (any, error) { return s.agent.Pause(c.ctx, *c.in.(*api.Pause)) }

func (s *Server) unpause(c *call) (any, error) { return nil, s.agent.Unpause(c.ctx) }

func (s *Server) verification(c *call) (any, error) { return s.agent.Verification(c.ctx) }

func (s *Server) enableVerification(c *call) (any, error) {
	in := *c.in.(*api.EnableVerification)
	defer clear(in.PIN)
	defer clear(in.KeyPIN)
	return s.agent.EnableVerification(c.ctx, c.id, in)
}

func (s *Server) setPIN(c *call) (any, error) {
	in := *c.in.(*api.SetPIN)
	defer clear(in.PIN)
	defer clear(in.OldPIN)
	defer clear(in.KeyPIN)
	return s.agent.SetPIN(c.ctx, in)
}

func (s *Server) removePIN(c *call) (any, error) {
	in := *c.in.(*api.RemovePIN)
	defer clear(in.PIN)
	return s.agent.RemovePIN(c.ctx, in)
}

func (s *Server) resetPIN(c *call) (any, error) { return s.agent.ResetPIN(c.ctx) }

func (s *Server) codes(c *call) (any, error) { return s.agent.Codes(c.ctx) }

func (s *Server) code(c *call) (any, error) { return s.agent.Code(c.ctx, c.id) }

func (s *Server) signInWithKey(c *call) (any, error) {
	in := *c.in.(*api.KeySignIn)
	defer clear(in.Password)
	defer clear(in.PIN)
	return s.agent.SignInWithKey(c.ctx, in)
}

func (s *Server) rekey(c *call) (any, error) {
	return s.agent.RekeyVault(c.ctx, *c.in.(*api.Rekey))
}

func (s *Server) device(c *call) (any, error) { return s.agent.Device(c.ctx) }

func (s *Server) doctor(c *call) (any, error) { return s.agent.Doctor(c.ctx, c.query.Get("topic")) }

func (s *Server) describe(*call) (any, error) { return json.RawMessage(s.openAPI()), nil }
