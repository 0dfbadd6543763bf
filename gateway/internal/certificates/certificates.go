// Package certificates reads certificates from PEM files, and again when these change, without a restart. Files that do not fit
// each other, as in the middle of a change, are left alone until they do. Making and renewing them is up to others.
package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"murphey.dev/gateway/internal/settings"
)

// LookAgainAfter is how long files that were looked at are taken to be the same.
var LookAgainAfter = time.Second

// ForClients is the configuration of the listener; nil where clients are answered in plain.
func ForClients(files settings.TLS) (*tls.Config, error) {
	if files.Certificate == "" {
		return nil, nil
	}
	pair, err := open(files.Certificate, files.Key, "")
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.now().pair, nil },
	}, nil
}

// ForServices are the credentials of connections to the services.
func ForServices(files settings.TLS) (credentials.TransportCredentials, error) {
	if files.ServicesCA == "" {
		return insecure.NewCredentials(), nil
	}
	known, err := open(files.ServicesCertificate, files.ServicesKey, files.ServicesCA)
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12,
		// The authority may change, which RootCAs cannot: the same check is made below, with the present one.
		InsecureSkipVerify: true, //nolint:gosec
		VerifyConnection:   known.verify,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if pair := known.now().pair; pair != nil {
				return pair, nil
			}
			return &tls.Certificate{}, nil
		},
	}), nil
}

// content is what files held when they were read last.
type content struct {
	pair  *tls.Certificate
	roots *x509.CertPool
	stamp string
}

// watched are files and what was read of them.
type watched struct {
	certificate, key, authority string
	mutex                       sync.Mutex
	content                     content
	looked                      time.Time
	complaint                   string
}

func open(certificate, key, authority string) (*watched, error) {
	files := &watched{certificate: certificate, key: key, authority: authority}
	var err error
	files.content, err = files.read()
	files.looked = time.Now()
	return files, err
}

// now is what the files hold, or held when they last fitted each other.
func (w *watched) now() content {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if time.Since(w.looked) < LookAgainAfter {
		return w.content
	}
	w.looked = time.Now()
	if stamp, err := w.stamped(); err == nil && stamp == w.content.stamp {
		return w.content
	}
	found, err := w.read()
	if err != nil {
		if err.Error() != w.complaint {
			slog.Warn("certificates_not_taken", "reason", err.Error())
		}
		w.complaint = err.Error()
		return w.content
	}
	slog.Info("certificates_renewed", "certificate", w.certificate)
	w.content, w.complaint = found, ""
	return found
}

func (w *watched) paths() []string {
	var paths []string
	for _, path := range []string{w.certificate, w.key, w.authority} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

func (w *watched) stamped() (string, error) {
	stamp := ""
	for _, path := range w.paths() {
		status, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		stamp += fmt.Sprintf("%d %d\n", status.ModTime().UnixNano(), status.Size())
	}
	return stamp, nil
}

func (w *watched) read() (content, error) {
	before, err := w.stamped()
	if err != nil {
		return content{}, fmt.Errorf("a certificate cannot be read: %w", err)
	}
	found := content{stamp: before}
	if w.certificate != "" {
		pair, err := tls.LoadX509KeyPair(w.certificate, w.key)
		if err != nil {
			return content{}, fmt.Errorf("the certificate in %s and the key in %s cannot be used: %w", w.certificate, w.key, err)
		}
		found.pair = &pair
	}
	if w.authority != "" {
		pem, err := os.ReadFile(w.authority)
		if err != nil {
			return content{}, err
		}
		found.roots = x509.NewCertPool()
		if !found.roots.AppendCertsFromPEM(pem) {
			return content{}, fmt.Errorf("%s holds no certificate of an authority", w.authority)
		}
	}
	if after, err := w.stamped(); err != nil || after != before {
		return content{}, errors.New("the certificates are just being changed")
	}
	return found, nil
}

// verify is what crypto/tls does by itself where it is given the roots.
func (w *watched) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the service has shown no certificate")
	}
	options := x509.VerifyOptions{Roots: w.now().roots, DNSName: state.ServerName, Intermediates: x509.NewCertPool()}
	for _, certificate := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}
