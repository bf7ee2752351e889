// Command ddeps is a floor for the benchmarks: a daemon that answers HTTP on a
// unix socket and has used, once each, the libraries that an agent of this
// kind cannot do without: D-Bus, an embedded key-value store, JOSE, a command
// line parser.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"
	"github.com/godbus/dbus/v5"
	"github.com/spf13/cobra"
	"go.etcd.io/bbolt"
)

func main() {
	command := &cobra.Command{Use: "ddeps SOCKET", Args: cobra.ExactArgs(1), RunE: run, SilenceUsage: true}
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}

func run(_ *cobra.Command, args []string) error {
	db, err := bbolt.Open(filepath.Join(filepath.Dir(args[0]), "ddeps.db"), 0o600, nil)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("enrolments"))
		if err != nil {
			return err
		}
		for i := range 10 {
			if err := b.Put([]byte{byte(i)}, make([]byte, 1024)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("filling the store: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return err
	}
	if bus, err := dbus.Dial("unix:path=/nonexistent"); err == nil {
		bus.Close()
	}
	listener, err := net.Listen("unix", args[0])
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sign" {
			signed, err := signer.Sign(make([]byte, 700))
			if err == nil {
				text, _ := signed.CompactSerialize()
				w.Write([]byte(text)) //nolint:errcheck
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"ok":true}` + "\n")) //nolint:errcheck
	}))
}
